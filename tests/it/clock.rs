//! A wall clock that a test sets, for one program and what it starts: by
//! faketime, which leaves the monotonic clock as it is.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// The environment of a program whose clock differs from the true one by what
/// is in the file, `+0` at first.
pub fn settable(clock: &Path) -> [(&'static str, OsString); 4] {
    fs::write(clock, "+0").unwrap();
    let library = fs::read_dir("/usr/lib")
        .unwrap()
        .map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("the library of faketime");
    [
        ("LD_PRELOAD", library.into()),
        ("FAKETIME_TIMESTAMP_FILE", clock.into()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ]
}
