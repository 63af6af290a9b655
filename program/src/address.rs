//! Where an execution's account lies: the PDA of "execution" and a hash of both ids.

use crate::{arguments::Pair, error::Error};
use pinocchio::{AccountView, Address};
use solana_sha256_hasher::hashv;

pub const SEED: &[u8] = b"execution";

/// SHA-256 of the length of executionId as one byte, executionId and taskId. An id has at most 64 bytes.
pub fn hash(pair: &Pair) -> [u8; 32] {
    hashv(&[&[pair.execution_id.len() as u8], pair.execution_id, pair.task_id]).to_bytes()
}

/// Search the bump. Only `assign_task` does: what it costs depends on the requester's bytes.
pub fn check_by_search(account: &AccountView, hash: &[u8; 32], program_id: &Address) -> Result<u8, Error> {
    match Address::try_find_program_address(&[SEED, hash], program_id) {
        Some((address, bump)) if *account.address() == address => Ok(bump),
        _ => Err(Error::WrongAddress),
    }
}

/// Check with the bump that the account stores.
pub fn check(account: &AccountView, pair: &Pair, bump: u8, program_id: &Address) -> Result<(), Error> {
    let address = hashv(&[SEED, &hash(pair), &[bump], program_id.as_ref(), b"ProgramDerivedAddress"]);
    if account.address().as_ref() == address.as_ref() {
        Ok(())
    } else {
        Err(Error::WrongAddress)
    }
}
