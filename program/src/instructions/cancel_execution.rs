use super::load;
use crate::{
    accounts,
    arguments::{Pair, Reader},
    error::Error,
    event,
    execution::State,
    time::{Now, NOTICE_S},
};
use pinocchio::{AccountView, Address, ProgramResult};

/// Begin the notice, after which the requester may have everything back.
pub fn cancel_execution(program_id: &Address, accounts: &mut [AccountView], data: &[u8]) -> ProgramResult {
    let mut reader = Reader::new(data);
    let pair = Pair::read(&mut reader)?;
    reader.finish()?;
    let [execution, requester, node, ..] = accounts else {
        return Err(Error::AccountsMissing.into());
    };
    accounts::distinct(&[execution, requester, node])?;
    accounts::writable(execution, Error::ExecutionNotWritable)?;
    accounts::signer(requester, Error::RequesterNotSigner)?;
    let mut head = load(execution, &pair, program_id)?;
    if *requester.address() != head.requester {
        return Err(Error::WrongRequester.into());
    }
    if *node.address() != head.assigned_node {
        return Err(Error::WrongNode.into());
    }
    match head.state() {
        State::Assigned => {}
        State::Cancelled => return Err(Error::AlreadyCancelled.into()),
        State::Failed => return Err(Error::AlreadyFailed.into()),
        State::Completed => return Err(Error::AlreadyCompleted.into()),
    }
    let refund_at = Now::read()?.after(NOTICE_S)?;
    head.set_state(State::Cancelled);
    head.set_refund_at(refund_at);
    head.store(execution)?;
    event::emit(event::EXECUTION_CANCELLED, &[pair.encoded, head.assigned_node.as_ref(), &refund_at.to_le_bytes()])?;
    Ok(())
}
