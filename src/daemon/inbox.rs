//! What has arrived on a connection and isn't served yet, line by line.
//!
//! Requests may carry tokens, well-formed or not: whatever was here is wiped,
//! and nothing is copied to a place that isn't.

use zeroize::Zeroize as _;

use crate::wire::MAX_REQUEST;

/// How much is read at once. Requests have some 40 bytes, and memory that is
/// cleared for more than comes takes time from each.
pub const READ: usize = 512;

/// Bytes that wait to be served.
#[derive(Default)]
pub struct Inbox {
    /// There is nothing of a request beyond its length.
    bytes: Vec<u8>,
    /// So many of them are served, and wiped.
    served: usize,
}

/// The next request.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<T> {
    /// What was read of a whole one.
    Whole(T),
    /// More than [`MAX_REQUEST`] bytes.
    TooLong,
    /// None, or only the beginning of one.
    Incomplete,
}

impl Inbox {
    /// Takes what `read` puts into the room that it's given, [`READ`] bytes;
    /// it says how many that were.
    pub fn fill<E>(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.make_room();
        let there = self.bytes.len();
        self.bytes.resize(there + READ, 0);
        let came = read(&mut self.bytes[there..]);
        let end = there + *came.as_ref().unwrap_or(&0);
        self.bytes.truncate(end);
        came
    }

    /// The next line without its newline, as `read` reads it; then it's wiped.
    pub fn take_line<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Line<T> {
        let waiting = &mut self.bytes[self.served..];
        match waiting.iter().position(|byte| *byte == b'\n') {
            Some(end) if end > MAX_REQUEST => Line::TooLong,
            None if waiting.len() > MAX_REQUEST => Line::TooLong,
            None => Line::Incomplete,
            Some(end) => {
                let line = &mut waiting[..end];
                let taken = read(line);
                line.zeroize();
                self.served += end + 1;
                if self.served == self.bytes.len() {
                    self.bytes.clear();
                    self.served = 0;
                }
                Line::Whole(taken)
            }
        }
    }

    /// Does nothing wait here.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gives its memory back, if nothing is in it.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
        }
    }

    fn make_room(&mut self) {
        if self.served == 0 && self.bytes.capacity() - self.bytes.len() >= READ {
            return;
        }
        let waiting = &mut self.bytes[self.served..];
        let mut roomier = Vec::with_capacity(2 * waiting.len() + READ);
        roomier.extend_from_slice(waiting);
        waiting.zeroize();
        self.bytes = roomier;
        self.served = 0;
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.bytes.as_mut_slice().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrives(inbox: &mut Inbox, bytes: &[u8]) {
        for part in bytes.chunks(READ) {
            let came = inbox.fill(|room| {
                room[..part.len()].copy_from_slice(part);
                Ok::<_, ()>(part.len())
            });
            assert_eq!(came, Ok(part.len()));
        }
    }

    fn next(inbox: &mut Inbox) -> Line<String> {
        inbox.take_line(|line| String::from_utf8(line.to_vec()).unwrap())
    }

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let mut inbox = Inbox::default();
        arrives(&mut inbox, b"one\ntwo\nthr");
        assert_eq!(next(&mut inbox), Line::Whole("one".into()));
        assert_eq!(next(&mut inbox), Line::Whole("two".into()));
        assert_eq!(next(&mut inbox), Line::Incomplete);
        arrives(&mut inbox, b"ee\n");
        assert_eq!(next(&mut inbox), Line::Whole("three".into()));
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_request_may_have_16_kib_and_not_one_byte_more() {
        let longest = "x".repeat(MAX_REQUEST);
        let mut inbox = Inbox::default();
        arrives(&mut inbox, longest.as_bytes());
        assert_eq!(next(&mut inbox), Line::Incomplete);
        arrives(&mut inbox, b"\n");
        assert_eq!(next(&mut inbox), Line::Whole(longest.clone()));
        arrives(&mut inbox, longest.as_bytes());
        arrives(&mut inbox, b"x");
        assert_eq!(next(&mut inbox), Line::TooLong);
        arrives(&mut inbox, b"\n");
        assert_eq!(next(&mut inbox), Line::TooLong);
    }

    #[test]
    fn what_is_served_is_wiped_and_what_waits_is_moved_once() {
        let mut inbox = Inbox::default();
        let first = "a".repeat(700);
        arrives(&mut inbox, format!("{first}\nsecond").as_bytes());
        assert_eq!(next(&mut inbox), Line::Whole(first));
        assert!(!inbox.bytes.contains(&b'a'));
        let nothing = inbox.fill(|room| {
            assert!(room.iter().all(|byte| *byte == 0) && room.len() == READ);
            Err(())
        });
        assert_eq!(nothing, Err(()));
        arrives(&mut inbox, b"\n");
        assert_eq!(next(&mut inbox), Line::Whole("second".into()));
        inbox.shrink();
        assert_eq!(inbox.bytes.capacity(), 0);
    }
}
