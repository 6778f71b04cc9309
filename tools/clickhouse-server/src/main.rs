//! A ClickHouse server for the tests, the benchmarks and the demo.
//!
//! `libchdb` is ClickHouse as a library, with ClickHouse's own HTTP server inside. This program loads it and runs
//! its `clickhouse local` command line with two queries: the first opens the HTTP port, the second sleeps for
//! years, because the server runs as long as the command line does. It must be a program of its own:
//! ClickHouse checks the bounds of its stack, and calls through a JavaScript FFI fail that check.
//!
//! ```text
//! clickhouse-server <libchdb> --path=<directory> --http_port=<port> [any option of clickhouse local]
//! ```
//!
//! It ends with SIGTERM, with SIGINT, and when its standard input ends: the program that starts it
//! holds the other end of that pipe, and the system closes it however that program dies. Data is on
//! disk once an INSERT was answered, so a sudden end costs nothing.

use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{Read, Write};
use std::process::ExitCode;
use std::{env, io, ptr, thread};

use libloading::{Library, Symbol};

/// One row a block, three seconds a row: nearly ten years at no cost in CPU.
const QUERIES: &str = "--query=SYSTEM START LISTEN HTTP; \
    SELECT sleepEachRow(3) FROM numbers(100000000) FORMAT Null \
    SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0";

/// `chdb_result * chdb_query_cmdline(int argc, char ** argv)`
type QueryCmdline = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;

/// `const char * chdb_result_error(chdb_result * result)`: null when the queries succeeded.
type ResultError = unsafe extern "C" fn(*mut c_void) -> *const c_char;

fn main() -> ExitCode {
    thread::spawn(exit_with_stdin);
    let reason = match serve() {
        Ok(()) => "the server ended by itself".to_owned(),
        Err(error) => error.to_string(),
    };
    // The reader of standard error may be gone; then the reason is lost.
    let _ = writeln!(io::stderr(), "clickhouse-server: {reason}");
    ExitCode::FAILURE
}

/// Runs the server on this thread, which must be the main one; comes back only when something went wrong.
fn serve() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1);
    let library =
        args.next().ok_or("usage: clickhouse-server <libchdb> --path=<directory> --http_port=<port>")?;

    let mut argv = vec![CString::from(c"clickhouse"), CString::from(c"--multiquery"), CString::new(QUERIES)?];
    for arg in args {
        argv.push(CString::new(arg.into_encoded_bytes())?);
    }
    let argc = c_int::try_from(argv.len())?;
    let mut argv: Vec<*mut c_char> = argv.into_iter().map(CString::into_raw).collect();
    argv.push(ptr::null_mut());

    // SAFETY: the library is the one that the caller names as libchdb, and its initialisers are those of ClickHouse,
    // which run in any process that links it. Nothing else runs here yet but a thread that reads standard input.
    let library = unsafe { Library::new(library) }?;
    // SAFETY: the types are those of `chdb.h`, of the version that this package's lock file pins.
    let query_cmdline: Symbol<QueryCmdline> = unsafe { library.get(b"chdb_query_cmdline") }?;
    // SAFETY: as above.
    let result_error: Symbol<ResultError> = unsafe { library.get(b"chdb_result_error") }?;

    // SAFETY: `argv` holds `argc` strings that end in NUL and stay valid until the process ends (they
    // are never taken back from `into_raw`), followed by a null pointer, as `main` would receive them;
    // they are writable and not shared.
    let result = unsafe { query_cmdline(argc, argv.as_mut_ptr()) };
    if result.is_null() {
        return Err("chdb_query_cmdline gave no result".into());
    }
    // SAFETY: `result` came from `chdb_query_cmdline`, is not null and was not destroyed.
    let message = unsafe { result_error(result) };
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the message is a string that ends in NUL and belongs to `result`, which stays valid until
    // the process ends.
    Err(unsafe { CStr::from_ptr(message) }.to_string_lossy().into())
}

/// Ends the process when standard input ends.
fn exit_with_stdin() {
    unsafe extern "C" {
        fn _exit(status: c_int) -> !;
    }

    let mut ignored = [0; 64];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut ignored) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
        }
    }
    // `std::process::exit` would run the destructors of ClickHouse's statics under its running threads, and crash.
    // SAFETY: `_exit` takes any status, touches no memory of the process and does not return.
    unsafe { _exit(0) }
}
