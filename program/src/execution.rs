//! The execution account: a head of fixed offsets, so that it can be filtered by, then borsh strings.

use crate::error::Error;
use core::mem::size_of;
use pinocchio::{error::ProgramError, AccountView, Address};

/// First eight bytes of SHA-256 of `account:Execution`.
const DISCRIMINATOR: [u8; 8] = [0x32, 0x94, 0xe1, 0xa3, 0x81, 0x21, 0xe5, 0x28];
const LAYOUT: u8 = 1;

pub const HEAD_LENGTH: usize = size_of::<Head>();

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub enum State {
    Assigned = 0,
    /// In notice until `refund_at`; then the requester may have everything back.
    Cancelled = 1,
    Failed = 2,
    Completed = 3,
}

/// Bytes 0 to 119. Every field is made of bytes, so any 120 bytes are a head and none is misaligned.
#[derive(Clone)]
#[repr(C)]
pub struct Head {
    discriminator: [u8; 8],
    layout: u8,
    state: u8,
    pub bump: u8,
    pub expected_output_count: u8,
    zero: [u8; 4],
    pub assigned_node: Address,
    pub requester: Address,
    reward: [u8; 8],
    deadline: [u8; 8],
    refund_at: [u8; 8],
    attempt: [u8; 8],
    compute_units: [u8; 8],
}

const _: () = assert!(HEAD_LENGTH == 120 && core::mem::align_of::<Head>() == 1);

/// What an assignment sets.
pub struct Terms {
    pub expected_output_count: u8,
    pub deadline: i64,
    pub compute_units: u64,
    pub reward: u64,
}

impl Head {
    pub fn assigned(terms: &Terms, assigned_node: &Address, requester: &Address, bump: u8, attempt: u64) -> Self {
        Self {
            discriminator: DISCRIMINATOR,
            layout: LAYOUT,
            state: State::Assigned as u8,
            bump,
            expected_output_count: terms.expected_output_count,
            zero: [0; 4],
            assigned_node: assigned_node.clone(),
            requester: requester.clone(),
            reward: terms.reward.to_le_bytes(),
            deadline: terms.deadline.to_le_bytes(),
            refund_at: [0; 8],
            attempt: attempt.to_le_bytes(),
            compute_units: terms.compute_units.to_le_bytes(),
        }
    }

    /// A copy of the account's head, if it is an execution of this program.
    pub fn load(account: &AccountView, program_id: &Address) -> Result<Self, ProgramError> {
        if !account.owned_by(program_id) {
            return Err(Error::WrongOwner.into());
        }
        let data = account.try_borrow()?;
        let Some(bytes) = data.first_chunk::<HEAD_LENGTH>() else {
            return Err(Error::UnknownLayout.into());
        };
        // SAFETY: Head is made of bytes and as long as the array.
        let head = unsafe { &*bytes.as_ptr().cast::<Head>() };
        if head.discriminator != DISCRIMINATOR || head.layout != LAYOUT || head.state > State::Completed as u8 {
            return Err(Error::UnknownLayout.into());
        }
        Ok(head.clone())
    }

    /// Write it over the head of the account, which is at least as long.
    pub fn store(&self, account: &mut AccountView) -> Result<(), ProgramError> {
        let mut data = account.try_borrow_mut()?;
        let Some(target) = data.first_chunk_mut::<HEAD_LENGTH>() else {
            return Err(Error::UnknownLayout.into());
        };
        *target = *self.bytes();
        Ok(())
    }

    fn bytes(&self) -> &[u8; HEAD_LENGTH] {
        // SAFETY: Head is made of bytes, without padding, and as long as the array.
        unsafe { &*(self as *const Self).cast() }
    }

    pub fn state(&self) -> State {
        match self.state {
            0 => State::Assigned,
            1 => State::Cancelled,
            2 => State::Failed,
            _ => State::Completed,
        }
    }

    pub fn set_state(&mut self, state: State) {
        self.state = state as u8;
    }

    pub fn reward(&self) -> u64 {
        u64::from_le_bytes(self.reward)
    }

    pub fn deadline(&self) -> i64 {
        i64::from_le_bytes(self.deadline)
    }

    pub fn refund_at(&self) -> i64 {
        i64::from_le_bytes(self.refund_at)
    }

    pub fn set_refund_at(&mut self, refund_at: i64) {
        self.refund_at = refund_at.to_le_bytes();
    }

    pub fn attempt(&self) -> u64 {
        u64::from_le_bytes(self.attempt)
    }
}
