use super::{is_the_nodes_to_end, load};
use crate::{
    accounts,
    arguments::{Pair, Reader},
    error::Error,
    event,
    execution::State,
    time::Now,
};
use pinocchio::{AccountView, Address, ProgramResult};

const MAX_ERROR_MESSAGE_BYTES: usize = 256;

/// Free the task: the requester may assign it again or have everything back.
pub fn task_failed(program_id: &Address, accounts: &mut [AccountView], data: &[u8]) -> ProgramResult {
    let mut reader = Reader::new(data);
    let pair = Pair::read(&mut reader)?;
    let attempt = reader.u64()?;
    let error_message = reader.string()?;
    reader.finish()?;
    if error_message.len() > MAX_ERROR_MESSAGE_BYTES {
        return Err(Error::ErrorMessageTooLong.into());
    }
    if core::str::from_utf8(error_message).is_err() {
        return Err(Error::ErrorMessageNotUtf8.into());
    }
    let [execution, node, ..] = accounts else {
        return Err(Error::AccountsMissing.into());
    };
    accounts::distinct(&[execution, node])?;
    accounts::writable(execution, Error::ExecutionNotWritable)?;
    accounts::signer(node, Error::NodeNotSigner)?;
    let mut head = load(execution, &pair, program_id)?;
    is_the_nodes_to_end(&head, node, attempt, &Now::read()?)?;
    head.set_state(State::Failed);
    head.store(execution)?;
    event::emit(
        event::TASK_FAILED,
        &[pair.encoded, node.address().as_ref(), &(error_message.len() as u32).to_le_bytes(), error_message],
    )?;
    Ok(())
}
