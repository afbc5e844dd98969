//! The system's allocator, which counts for each thread what it does: the test harness has threads of its
//! own, and other tests run meanwhile.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST_HELD: Cell<usize> = const { Cell::new(0) };
}

/// How often this thread has asked for memory.
pub fn calls() -> u64 {
    CALLS.get()
}

/// What this thread asks for from here on.
pub struct Watch {
    held: usize,
}

impl Watch {
    pub fn start() -> Self {
        LARGEST.set(0);
        MOST_HELD.set(HELD.get());
        Self { held: HELD.get() }
    }

    /// The largest piece, in bytes.
    pub fn largest(&self) -> usize {
        LARGEST.get()
    }

    /// What is held, in bytes, beyond what was held at the start.
    pub fn held(&self) -> usize {
        HELD.get() - self.held
    }

    /// The most that was held at once, in bytes, beyond what was held at the start.
    pub fn most_held(&self) -> usize {
        MOST_HELD.get() - self.held
    }
}

fn note(size: usize) {
    // A thread that ends may allocate when its locals are gone already.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
    let _ = HELD.try_with(|held| {
        held.set(held.get() + size);
        let _ = MOST_HELD.try_with(|most| most.set(most.get().max(held.get())));
    });
}

fn note_free(size: usize) {
    // What another thread has allocated may be given back by this one.
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub(size)));
}

// SAFETY: each method hands its arguments on to `System` unchanged, whose contract is the same; counting
// neither allocates nor unwinds.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note_free(layout.size());
        note(size);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note_free(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }
}
