//! Events as Anchor writes them: one `Program data:` line of discriminator and borsh.

use crate::{allocate_unchecked, error::Error};
use pinocchio::syscalls::sol_log_data;

/// First eight bytes of SHA-256 of `event:<name>`.
pub const TASK_ASSIGNED: [u8; 8] = [0x43, 0x08, 0x57, 0x3b, 0x6f, 0x5b, 0xcc, 0xaa];
pub const EXECUTION_CANCELLED: [u8; 8] = [0xf1, 0x3c, 0x15, 0xff, 0xe4, 0x49, 0x3e, 0xa7];
pub const TASK_COMPLETED: [u8; 8] = [0x84, 0xdf, 0x62, 0x98, 0x02, 0x09, 0x39, 0x80];
pub const TASK_FAILED: [u8; 8] = [0x10, 0xe3, 0x42, 0x5f, 0xac, 0xd7, 0x79, 0x8f];

/// Longer than three ids, eight URIs and what is fixed.
const CAPACITY: usize = 4096;

/// Log one event of these parts, which are checked to be shorter than the capacity.
pub fn emit(discriminator: [u8; 8], parts: &[&[u8]]) -> Result<(), Error> {
    // SAFETY: the heap is zeroed, holds nothing else, and no instruction emits two events at once. The
    // parts never lie in it.
    let buffer = unsafe { allocate_unchecked::<[u8; CAPACITY]>(0) };
    let mut length = 0;
    for part in [&discriminator as &[u8]].iter().chain(parts) {
        let end = part.len().checked_add(length).ok_or(Error::SumOverflow)?;
        buffer.get_mut(length..end).ok_or(Error::SumOverflow)?.copy_from_slice(part);
        length = end;
    }
    let line: &[u8] = buffer.get(..length).ok_or(Error::SumOverflow)?;
    let lines: [&[u8]; 1] = [line];
    // SAFETY: a pointer to one slice, which the syscall only reads.
    unsafe { sol_log_data(lines.as_ptr().cast(), 1) };
    Ok(())
}
