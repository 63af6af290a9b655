use super::{is_the_nodes_to_end, load};
use crate::{
    accounts,
    arguments::{Pair, Reader},
    error::Error,
    event,
    execution::State,
    text,
    time::Now,
};
use pinocchio::{AccountView, Address, ProgramResult};

struct Arguments<'a> {
    pair: Pair<'a>,
    attempt: u64,
    outputs: Outputs<'a>,
    execution_time: u64,
}

struct Outputs<'a> {
    count: usize,
    /// One URI that names all tensors of its object stands for any count.
    is_all_of_one_object: bool,
    encoded: &'a [u8],
}

/// Pay exactly the reward to the assigned node.
pub fn task_completed(program_id: &Address, accounts: &mut [AccountView], data: &[u8]) -> ProgramResult {
    let arguments = Arguments::read(data)?;
    let [execution, node, ..] = accounts else {
        return Err(Error::AccountsMissing.into());
    };
    accounts::distinct(&[execution, node])?;
    accounts::writable(execution, Error::ExecutionNotWritable)?;
    accounts::signer(node, Error::NodeNotSigner)?;
    accounts::writable(node, Error::NodeNotWritable)?;
    let mut head = load(execution, &arguments.pair, program_id)?;
    let now = Now::read()?;
    is_the_nodes_to_end(&head, node, arguments.attempt, &now)?;
    if now.unix_timestamp > head.deadline() {
        return Err(Error::DeadlinePassed.into());
    }
    if arguments.outputs.count != head.expected_output_count as usize && !arguments.outputs.is_all_of_one_object {
        return Err(Error::OutputUriCount.into());
    }
    head.set_state(State::Completed);
    head.store(execution)?;
    pay(execution, node, head.reward())?;
    event::emit(
        event::TASK_COMPLETED,
        &[
            arguments.pair.encoded,
            arguments.outputs.encoded,
            &arguments.execution_time.to_le_bytes(),
            node.address().as_ref(),
        ],
    )?;
    Ok(())
}

impl<'a> Arguments<'a> {
    fn read(data: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(data);
        let pair = Pair::read(&mut reader)?;
        let attempt = reader.u64()?;
        let outputs = Outputs::read(&mut reader)?;
        let execution_time = reader.u64()?;
        reader.finish()?;
        Ok(Self { pair, attempt, outputs, execution_time })
    }
}

impl<'a> Outputs<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let start = reader.read_so_far().len();
        let count = reader.u32()? as usize;
        if count > text::MAX_URIS {
            return Err(Error::OutputUriCount);
        }
        let mut all = false;
        for _ in 0..count {
            let uri = reader.string()?;
            if !text::is_uri(uri) {
                return Err(Error::InvalidOutputUri);
            }
            all = text::names_all_tensors(uri);
        }
        let encoded = reader.read_so_far().get(start..).unwrap_or_default();
        Ok(Self { count, is_all_of_one_object: count == 1 && all, encoded })
    }
}

fn pay(execution: &mut AccountView, node: &mut AccountView, reward: u64) -> Result<(), Error> {
    let left = execution.lamports().checked_sub(reward).ok_or(Error::RewardMissing)?;
    let paid = node.lamports().checked_add(reward).ok_or(Error::SumOverflow)?;
    execution.set_lamports(left);
    node.set_lamports(paid);
    Ok(())
}
