//! `[[server.api_keys]]`

use std::collections::HashSet;

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    auth::ApiKey,
    problem::Problems,
    table::{Keys, Table, built},
};

pub const KEYS: Keys = Keys {
    table: "server.api_keys",
    doc: "One key of a client, in a list of tables.",
    keys: &[
        built("id", "The client's name."),
        built("key", "The key; never printed."),
        built("key_sha256", "SHA-256 of the key in hexadecimal, instead of the key."),
        built("group", "The group that the client is in."),
    ],
};

/// A shorter key can be guessed.
const SHORT: usize = 16;

pub(super) fn read(server: &mut Table, problems: &mut Problems) -> Vec<ApiKey> {
    let (mut ids, mut digests) = (HashSet::new(), HashSet::new());
    let mut keys = Vec::new();
    for table in server.tables("api_keys", problems) {
        keys.extend(one(table, &mut ids, &mut digests, problems));
    }
    keys
}

fn one(mut table: Table, ids: &mut HashSet<String>, digests: &mut HashSet<[u8; 32]>, problems: &mut Problems) -> Option<ApiKey> {
    let table = &mut table;
    if !table.has("id") {
        table.error("", problems, "an API key without `id`", "limits, sessions and the log know the client by it", "add id = \"ci\"");
    }
    let id = table.string("id", problems);
    if let Some(id) = &id {
        if id.is_empty() || id.len() > 256 || id.chars().any(char::is_control) {
            table.error("id", problems, "this is no name", "it is shown in logs", "write 1 to 256 characters, such as \"ci\"");
        } else if !ids.insert(id.clone()) {
            table.error("id", problems, "two API keys have this id", "they would be one client", "give each key an id of its own");
        }
    }
    let sha256 = sha256(table, problems);
    if sha256.is_some_and(|sha256| !digests.insert(sha256)) {
        table.error("", problems, "the same key twice", "it could not be told whose it is", "give each client a key of its own");
    }
    let group = table.string("group", problems);
    table.finish(&KEYS, problems);
    Some(ApiKey { id: id?, sha256: sha256?, group })
}

fn sha256(table: &mut Table, problems: &mut Problems) -> Option<[u8; 32]> {
    table.hide("key_sha256");
    table.hide("key");
    match (table.has("key"), table.has("key_sha256")) {
        (true, true) => {
            table.error("key_sha256", problems, "key together with key_sha256", "only one could count", "remove one of the two");
        }
        (false, false) => {
            let remedy = "add key = \"{{ env.CI_KEY }}\", or key_sha256 with what `printf %s \"$CI_KEY\" | sha256sum` prints";
            table.error("", problems, "an API key without `key` and `key_sha256`", "nothing could be compared with it", remedy);
        }
        _ => {}
    }
    if table.has("key_sha256") {
        table.ignore(&["key"]);
        let text = table.string("key_sha256", problems)?;
        let parsed = from_hexadecimal(&text);
        if parsed.is_none() {
            let remedy = "write what `printf %s \"$CI_KEY\" | sha256sum` prints";
            table.error("key_sha256", problems, "this is no SHA-256", "it has 64 hexadecimal digits", remedy);
        }
        return parsed;
    }
    let key = table.secret("key", problems)?;
    let text = key.expose();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let remedy = "use letters and digits, such as those of `openssl rand -hex 32`";
        table.error(
            "key",
            problems,
            "this key cannot be sent",
            "a header's value has no spaces and no other characters than ASCII",
            remedy,
        );
        return None;
    }
    if text.bytes().filter(|byte| *byte == b'.').count() == 2 {
        let remedy = "use letters and digits, such as those of `openssl rand -hex 32`";
        table.error("key", problems, "this key looks like a JWT", "beside [server.oauth] it would be taken for one", remedy);
        return None;
    }
    if text.len() < SHORT {
        let why = "whoever reaches the listener can try keys until one fits";
        table.insecure("key", problems, format!("the key is shorter than {SHORT} characters"), why, "use `openssl rand -hex 32`");
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    Some(bytes)
}

fn from_hexadecimal(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(pair).ok().filter(|digits| !digits.starts_with('+'))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}
