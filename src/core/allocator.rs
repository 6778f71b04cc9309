//! The allocator of the engine: large buffers are mappings of their own, everything else is the system's.
//!
//! glibc keeps freed buffers of up to 32 MiB in the arenas of its threads, once one of that size was freed: what one thread frees
//! between other allocations is not given back, and is of no use to another thread. A spool with messages of 100 KiB took 896 MiB
//! at a ceiling of 64 MiB in this way, and 112 with large buffers as mappings (`npm run bench:memory`). The setting of glibc that
//! does the same, `M_MMAP_THRESHOLD`, would change the entire process, which is not ours.
//!
//! A mapping goes back to the system when it is freed, pages that were reserved and never touched take
//! no memory, and a buffer that grows is moved without a copy. The price is a system call, and a page
//! fault for every 4 KiB that are touched for the first time: memory that every batch needs is in
//! pools.

use std::alloc::{GlobalAlloc, Layout, System};

/// Buffers of this size are mappings. Allocations of a single message or row are smaller.
#[cfg(target_os = "linux")]
const LARGE: usize = 128 << 10;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Elsewhere the system's allocator maps large buffers by itself.
#[cfg(target_os = "linux")]
struct Allocator;

#[cfg(target_os = "linux")]
impl Allocator {
    /// The result is the same in `alloc` and `dealloc`: it follows from the layout.
    fn is_mapped(layout: Layout) -> bool {
        // A page is 4 KiB or more.
        layout.size() >= LARGE && layout.align() <= 4096
    }

    fn map(bytes: usize) -> *mut u8 {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at a place that the system chooses touches no memory that is in use.
        let mapping = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
        if mapping == libc::MAP_FAILED { std::ptr::null_mut() } else { mapping.cast() }
    }
}

// SAFETY: `is_mapped` says of each layout which of the two allocators has the memory, and `dealloc` and `realloc` are called with
// the layout of the allocation. A mapping is aligned to a page, zeroed, and at least as long as was asked for.
#[cfg(target_os = "linux")]
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if Allocator::is_mapped(layout) {
            return Allocator::map(layout.size());
        }
        // SAFETY: the caller promises what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if Allocator::is_mapped(layout) {
            return Allocator::map(layout.size());
        }
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if Allocator::is_mapped(layout) {
            // SAFETY: `alloc` mapped this number of bytes here, and the caller no longer uses them.
            // Unmapping fails only if the system lacks memory to note it; then they stay mapped.
            unsafe { libc::munmap(memory.cast(), layout.size()) };
            return;
        }
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller promises that `bytes` is a valid size for this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        match (Allocator::is_mapped(layout), Allocator::is_mapped(wanted)) {
            (true, true) => {
                // SAFETY: the mapping is ours, with the size of its layout, and may move.
                let moved =
                    unsafe { libc::mremap(memory.cast(), layout.size(), bytes, libc::MREMAP_MAYMOVE) };
                if moved == libc::MAP_FAILED { std::ptr::null_mut() } else { moved.cast() }
            }
            // SAFETY: as in `alloc`.
            (false, false) => unsafe { System.realloc(memory, layout, bytes) },
            _ => {
                // SAFETY: both layouts are valid, and the new memory has room for the smaller of the two.
                unsafe {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        std::ptr::copy_nonoverlapping(memory, moved, layout.size().min(bytes));
                        self.dealloc(memory, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_keeps_its_bytes_while_it_grows_and_shrinks_over_the_limit() {
        let mut bytes: Vec<u8> = Vec::new();
        for at in 0..3 * LARGE {
            bytes.push((at % 251) as u8);
        }
        for len in [2 * LARGE, LARGE + 1, LARGE, LARGE - 1, 10] {
            bytes.truncate(len);
            bytes.shrink_to_fit();
            assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8), "{len} bytes");
        }
        assert!(vec![0u8; 2 * LARGE].iter().all(|byte| *byte == 0));
    }
}
