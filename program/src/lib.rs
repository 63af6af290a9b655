//! The SplitUp reference program: a requester assigns a task and leaves the reward in its account, the
//! assigned node completes it and is paid, or the requester takes everything back. The account's layout
//! is in `execution.rs`, every reason to refuse in `error.rs`, one instruction in each file of `instructions/`.
#![no_std]

mod accounts;
mod address;
mod arguments;
mod error;
mod event;
mod execution;
mod instructions;
mod memory;
mod rent;
mod text;
mod time;

use error::Error;
use pinocchio::{no_allocator, nostd_panic_handler, program_entrypoint, AccountView, Address, ProgramResult};

/// More accounts than any instruction takes: what follows them is not looked at.
const MAX_ACCOUNTS: usize = 8;

program_entrypoint!(process, MAX_ACCOUNTS);
no_allocator!();
nostd_panic_handler!();

/// First eight bytes of SHA-256 of `global:<instruction>`, as Anchor has them.
const ASSIGN_TASK: [u8; 8] = [0x9e, 0x8e, 0xd9, 0x10, 0xaf, 0xd1, 0x5c, 0xed];
const CANCEL_EXECUTION: [u8; 8] = [0x36, 0x5e, 0x43, 0xef, 0x96, 0x7b, 0x28, 0x7c];
const TASK_COMPLETED: [u8; 8] = [0x73, 0xa3, 0x8c, 0xd6, 0x60, 0x07, 0x8c, 0xc6];
const TASK_FAILED: [u8; 8] = [0xd5, 0xc2, 0x67, 0x21, 0x88, 0x60, 0x5a, 0x15];
const RECLAIM: [u8; 8] = [0x2c, 0xb1, 0xec, 0xf9, 0x91, 0x6d, 0xa3, 0xba];

fn process(program_id: &Address, accounts: &mut [AccountView], data: &[u8]) -> ProgramResult {
    let Some((discriminator, arguments)) = data.split_first_chunk::<8>() else {
        return Err(Error::UnknownInstruction.into());
    };
    match *discriminator {
        ASSIGN_TASK => instructions::assign_task(program_id, accounts, arguments),
        CANCEL_EXECUTION => instructions::cancel_execution(program_id, accounts, arguments),
        TASK_COMPLETED => instructions::task_completed(program_id, accounts, arguments),
        TASK_FAILED => instructions::task_failed(program_id, accounts, arguments),
        RECLAIM => instructions::reclaim(program_id, accounts, arguments),
        _ => Err(Error::UnknownInstruction.into()),
    }
}
