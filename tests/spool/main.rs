//! The spool's log, on a simulated disk that loses what it may and on a real one, and the thread that has it.

mod crashes;
mod damage;
mod directory;
mod faults;
mod hand_over;
mod killed;
mod model;
mod mutations;
mod order;
mod random;
mod records;
mod simulated;
mod small_disk;
mod stored_rows;
mod thread;
