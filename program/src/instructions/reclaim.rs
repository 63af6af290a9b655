use super::load;
use crate::{
    accounts,
    arguments::{Pair, Reader},
    error::Error,
    execution::State,
    time::Now,
};
use pinocchio::{AccountView, Address, ProgramResult};

/// Give everything that is left back to the requester and close the account.
pub fn reclaim(program_id: &Address, accounts: &mut [AccountView], data: &[u8]) -> ProgramResult {
    let mut reader = Reader::new(data);
    let pair = Pair::read(&mut reader)?;
    reader.finish()?;
    let [execution, requester, ..] = accounts else {
        return Err(Error::AccountsMissing.into());
    };
    accounts::distinct(&[execution, requester])?;
    accounts::writable(execution, Error::ExecutionNotWritable)?;
    accounts::signer(requester, Error::RequesterNotSigner)?;
    accounts::writable(requester, Error::RequesterNotWritable)?;
    let head = load(execution, &pair, program_id)?;
    if *requester.address() != head.requester {
        return Err(Error::WrongRequester.into());
    }
    let now = Now::read()?;
    match head.state() {
        State::Failed | State::Completed => {}
        State::Assigned => now.grace_is_over(&head)?,
        State::Cancelled => now.notice_is_over(&head)?,
    }
    now.is_above_attempt(&head)?;
    close(execution, requester)
}

/// No lamports, no data, owned by the system program: funded again it is an empty account.
fn close(execution: &mut AccountView, requester: &mut AccountView) -> ProgramResult {
    let refunded = requester.lamports().checked_add(execution.lamports()).ok_or(Error::SumOverflow)?;
    requester.set_lamports(refunded);
    execution.close()
}
