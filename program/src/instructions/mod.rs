//! One file for each instruction. Each checks its data, its accounts, then state and time, then acts.

mod assign_task;
mod cancel_execution;
mod reclaim;
mod task_completed;
mod task_failed;

pub use assign_task::assign_task;
pub use cancel_execution::cancel_execution;
pub use reclaim::reclaim;
pub use task_completed::task_completed;
pub use task_failed::task_failed;

use crate::{
    address,
    arguments::Pair,
    error::Error,
    execution::{Head, State},
    time::Now,
};
use pinocchio::{error::ProgramError, AccountView, Address};

/// The head of the account of this pair.
fn load(execution: &AccountView, pair: &Pair, program_id: &Address) -> Result<Head, ProgramError> {
    let head = Head::load(execution, program_id)?;
    address::check(execution, pair, head.bump, program_id)?;
    Ok(head)
}

/// The node may still end this attempt: it is assigned, or its notice runs.
fn is_the_nodes_to_end(head: &Head, node: &AccountView, attempt: u64, now: &Now) -> Result<(), Error> {
    if *node.address() != head.assigned_node {
        return Err(Error::WrongNode);
    }
    if attempt != head.attempt() {
        return Err(Error::WrongAttempt);
    }
    match head.state() {
        State::Assigned => Ok(()),
        State::Cancelled if now.unix_timestamp < head.refund_at() => Ok(()),
        State::Cancelled => Err(Error::NoticeOver),
        State::Failed => Err(Error::AlreadyFailed),
        State::Completed => Err(Error::AlreadyCompleted),
    }
}
