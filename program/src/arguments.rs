//! Borsh, read in place.

use crate::{error::Error, text};

pub struct Reader<'a> {
    arguments: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub fn new(arguments: &'a [u8]) -> Self {
        Self { arguments, position: 0 }
    }

    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let end = self.position.checked_add(length).ok_or(Error::ArgumentsTruncated)?;
        let read = self.arguments.get(self.position..end).ok_or(Error::ArgumentsTruncated)?;
        self.position = end;
        Ok(read)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.bytes(N)?.try_into().map_err(|_| Error::ArgumentsTruncated)
    }

    pub fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// The bytes of a string, as yet unchecked.
    pub fn string(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u32()?;
        self.bytes(length as usize)
    }

    /// All bytes read so far.
    pub fn read_so_far(&self) -> &'a [u8] {
        self.arguments.get(..self.position).unwrap_or_default()
    }

    /// Nothing may follow the last argument.
    pub fn finish(self) -> Result<(), Error> {
        if self.position == self.arguments.len() {
            Ok(())
        } else {
            Err(Error::ArgumentsTrailing)
        }
    }
}

/// The two ids that name a task. They come first in every instruction.
pub struct Pair<'a> {
    pub execution_id: &'a [u8],
    pub task_id: &'a [u8],
    /// Both as borsh strings, as they stand in the arguments.
    pub encoded: &'a [u8],
}

impl<'a> Pair<'a> {
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let execution_id = reader.string()?;
        if !text::is_id(execution_id) {
            return Err(Error::InvalidExecutionId);
        }
        let task_id = reader.string()?;
        if !text::is_id(task_id) {
            return Err(Error::InvalidTaskId);
        }
        Ok(Self { execution_id, task_id, encoded: reader.read_so_far() })
    }
}
