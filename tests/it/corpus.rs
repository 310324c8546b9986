//! The corpus of the fuzz targets, through the same entries: what once was hostile stays harmless.

#[path = "../../fuzz/entries.rs"]
mod entries;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Longest try of one file, without optimisation and on a busy machine.
const LONGEST: Duration = Duration::from_secs(30);

fn replay(target: &str, entry: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for file in fs::read_dir(folder).expect("the corpus is there") {
        let path = file.expect("the corpus can be read").path();
        let started = Instant::now();
        let bytes = fs::read(&path).expect("the corpus can be read");
        entry(&bytes);
        // Cut short and bent in the middle, as a broken copy would be.
        entry(&bytes[..bytes.len() * 2 / 3]);
        let mut bent = bytes.clone();
        if let Some(byte) = bent.get_mut(bytes.len() / 2) {
            *byte ^= 0x20;
        }
        entry(&bent);
        assert!(started.elapsed() < LONGEST, "{} took {:?}", path.display(), started.elapsed());
        count += 1;
    }
    assert!(count >= 5, "the corpus of {target} was found: {count}");
}

#[test]
fn no_file_ends_the_program_or_takes_for_ever() {
    replay("files", entries::files);
}

#[test]
fn no_chain_ends_the_program_or_takes_for_ever() {
    replay("chain", entries::chain);
}

#[test]
fn no_configuration_ends_the_program_or_shows_a_secret() {
    replay("config", entries::config);
}
