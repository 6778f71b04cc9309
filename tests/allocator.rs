//! Large buffers on Linux take memory only while they are allocated, and only where they were written
//! to. Alone in its process, because it measures all of it.
#![cfg(target_os = "linux")]

use std::thread;

// The allocator comes with the engine.
use millrace as _;

/// Bytes of this process that are resident and not from files.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// glibc would keep the freed halves between those that are still there, and the memory of each thread for that thread.
#[test]
fn large_buffers_that_are_freed_or_never_touched_take_no_memory() {
    const MIB: usize = 1 << 20;
    let before = resident();
    let mut buffers: Vec<Vec<u8>> = Vec::new();
    for _ in 0..4 {
        let made = thread::spawn(|| (0..32).map(|_| vec![1; MIB]).collect::<Vec<Vec<u8>>>());
        buffers.extend(made.join().unwrap());
    }
    assert!(resident() > before + 120 * MIB);
    let mut at = 0;
    buffers.retain(|_| {
        at += 1;
        at % 2 == 0
    });
    let reserved: Vec<Vec<u8>> = (0..64).map(|_| Vec::with_capacity(4 * MIB)).collect();
    assert!(resident() < before + 72 * MIB, "{} MiB more", (resident() - before) / MIB);
    buffers.iter_mut().for_each(|buffer| {
        buffer.truncate(MIB / 4);
        buffer.shrink_to_fit();
    });
    assert!(resident() < before + 24 * MIB, "{} MiB more", (resident() - before) / MIB);
    drop((buffers, reserved));
    assert!(resident() < before + 8 * MIB, "{} MiB more", (resident() - before) / MIB);
}
