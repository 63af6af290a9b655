//! The chain's clock and the spans that the protocol counts by it, in seconds.

use crate::{error::Error, execution::Head};
use pinocchio::{
    error::ProgramError,
    sysvars::{clock::Clock, Sysvar},
};

/// After a cancellation the node may still complete for this long.
pub const NOTICE_S: i64 = 30;
/// After its deadline an assignment is left alone for this long.
pub const GRACE_S: i64 = 60;
pub const MAX_DEADLINE_S: i64 = 30 * 24 * 60 * 60;

pub struct Now {
    pub slot: u64,
    pub unix_timestamp: i64,
}

impl Now {
    pub fn read() -> Result<Self, ProgramError> {
        let clock = Clock::get()?;
        Ok(Self { slot: clock.slot, unix_timestamp: clock.unix_timestamp })
    }

    pub fn after(&self, seconds: i64) -> Result<i64, Error> {
        self.unix_timestamp.checked_add(seconds).ok_or(Error::SumOverflow)
    }

    /// An account is taken again or closed only in a slot above its attempt, so that attempts rise strictly.
    pub fn is_above_attempt(&self, head: &Head) -> Result<(), Error> {
        if self.slot > head.attempt() {
            Ok(())
        } else {
            Err(Error::SameSlot)
        }
    }

    pub fn grace_is_over(&self, head: &Head) -> Result<(), Error> {
        let end = head.deadline().checked_add(GRACE_S).ok_or(Error::SumOverflow)?;
        if self.unix_timestamp > end {
            Ok(())
        } else {
            Err(Error::StillAssigned)
        }
    }

    pub fn notice_is_over(&self, head: &Head) -> Result<(), Error> {
        if self.unix_timestamp >= head.refund_at() {
            Ok(())
        } else {
            Err(Error::NoticeRunning)
        }
    }
}
