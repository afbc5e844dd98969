//! The namespaces that a client is in, each a session behind a slot. On tokio's threads.
//!
//! Invariant: no two have the same name, nor ever the same number.

use super::connection::End;
use super::slot::Slot;
use crate::wire::engineio::Data;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Namespaces {
    list: Vec<Namespace>,
    /// The number of the next one.
    next: u32,
    /// Whose turn is next.
    turn: usize,
}

struct Namespace {
    name: String,
    number: u32,
    slot: Arc<Slot>,
}

impl Namespaces {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns its number.
    pub fn add(&mut self, name: String, slot: Slot) -> u32 {
        let number = self.next;
        self.next += 1;
        self.list.push(Namespace { name, number, slot: Arc::new(slot) });
        number
    }

    pub fn find(&self, name: &str) -> Option<&Arc<Slot>> {
        self.list.iter().find(|namespace| namespace.name == name).map(|namespace| &namespace.slot)
    }

    pub fn by_number(&self, number: u32) -> Option<&Arc<Slot>> {
        self.list.iter().find(|namespace| namespace.number == number).map(|namespace| &namespace.slot)
    }

    pub fn remove(&mut self, name: &str) -> Option<Arc<Slot>> {
        let at = self.list.iter().position(|namespace| namespace.name == name)?;
        Some(self.list.remove(at).slot)
    }

    /// Removes the only one, if its session can get another socket.
    pub fn take_only(&mut self) -> Option<(String, Arc<Slot>)> {
        let is_alone = self.list.len() == 1;
        let Namespace { name, slot, .. } = self.list.pop_if(|last| is_alone && last.slot.seat.is_some())?;
        Some((name, slot))
    }

    pub fn clear(&mut self) {
        self.list.clear();
    }

    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.list.iter().map(|namespace| Arc::clone(&namespace.slot)).collect()
    }

    /// Fetches what is there, in turn, up to about so many bytes. A session that has ended is removed, and
    /// its namespace is returned.
    pub fn fetch(&mut self, bytes: usize, mut on: impl FnMut(u32, Data)) -> Option<(String, End)> {
        let mut left = bytes;
        for _ in 0..self.list.len() {
            if left == 0 {
                break;
            }
            let at = self.turn % self.list.len();
            self.turn = at + 1;
            let Namespace { number, slot, .. } = &self.list[at];
            let (number, fetched) = (*number, slot.fetch(left));
            for packet in fetched.packets {
                left = left.saturating_sub(packet.len());
                on(number, packet);
            }
            if let Some(end) = fetched.end {
                return Some((self.list.remove(at).name, end));
            }
        }
        None
    }
}
