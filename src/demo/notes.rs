//! The `notes` upstream: short notes in memory, as tools, resources and a prompt.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    server::{Progress, Upstream},
    tools::{Arguments, Effect, Need, Outcome, Tool},
};

/// Notes kept, and the longest text of one; more would be a memory leak with a tool in front.
const MAX_NOTES: usize = 10_000;
const MAX_TEXT: usize = 64 * 1024;

const URI: &str = "notes://";

#[derive(Debug)]
struct Note {
    title: String,
    text: String,
}

/// Notes by number, counted from 1; they live as long as the process.
#[derive(Debug)]
pub(super) struct Notes(Mutex<BTreeMap<u32, Note>>);

impl Default for Notes {
    fn default() -> Self {
        let note = |title: &str, text: &str| Note { title: title.to_owned(), text: text.to_owned() };
        Self(Mutex::new(BTreeMap::from([
            (1, note("Welcome", "Ask for add_note, search_notes and list_notes. Notes live as long as this process.")),
            (2, note("Shopping", "Two USB-C cables (CBL-20) and a desk lamp (LMP-01), before the end of the month.")),
        ])))
    }
}

impl Upstream for Notes {
    fn name(&self) -> &'static str {
        "notes"
    }

    fn instructions(&self) -> &'static str {
        "Short notes. Each one is also a resource, notes://NUMBER."
    }

    fn tools(&self) -> Vec<Tool> {
        let text = |what: &str| json!({"type": "string", "description": what});
        vec![
            Tool {
                name: "add_note",
                title: "Add a note",
                description: "Keeps a note and tells its number and URI.",
                arguments: vec![("title", text("A few words"), Need::Required), ("text", text("The note"), Need::Required)],
                effect: Effect::Changes,
            },
            Tool {
                name: "search_notes",
                title: "Search notes",
                description: "Finds the notes that hold every word of the query, in title or text, whatever the case.",
                arguments: vec![("query", text("One or more words"), Need::Required)],
                effect: Effect::ReadsOnly,
            },
            Tool {
                name: "list_notes",
                title: "List notes",
                description: "Lists numbers and titles, newest first.",
                arguments: vec![("limit", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}), Need::Optional)],
                effect: Effect::ReadsOnly,
            },
        ]
    }

    async fn call(&self, tool: &str, arguments: Arguments<'_>, _progress: &Progress) -> Outcome {
        match tool {
            "add_note" => self.add(arguments.text("title")?, arguments.text("text")?),
            "search_notes" => Ok(self.search(arguments.text("query")?)),
            _ => {
                let limit = arguments.number("limit", 1, 1000)?.unwrap_or(100) as usize;
                Ok(json!({"notes": self.0.lock().iter().rev().take(limit).map(head).collect::<Vec<_>>()}))
            }
        }
    }

    fn resources(&self) -> Option<Vec<Value>> {
        let listed = |(number, note): (&u32, &Note)| json!({"uri": format!("{URI}{number}"), "name": format!("note-{number}"), "title": note.title, "mimeType": "text/plain"});
        Some(self.0.lock().iter().map(listed).collect())
    }

    fn templates(&self) -> Vec<Value> {
        vec![json!({"uriTemplate": format!("{URI}{{number}}"), "name": "note", "title": "A note by its number", "mimeType": "text/plain"})]
    }

    fn read(&self, uri: &str) -> Option<Value> {
        let number: u32 = uri.strip_prefix(URI)?.parse().ok()?;
        let notes = self.0.lock();
        notes.get(&number).map(|note| json!({"uri": uri, "mimeType": "text/plain", "text": format!("{}\n\n{}", note.title, note.text)}))
    }

    fn prompts(&self) -> Vec<Value> {
        let topic = json!({"name": "topic", "description": "Only notes about this; all when absent", "required": false});
        vec![
            json!({"name": "summarise_notes", "title": "Summarise notes", "description": "Asks for a summary of the notes.", "arguments": [topic]}),
        ]
    }

    fn prompt(&self, name: &str, arguments: Arguments<'_>) -> Option<Value> {
        (name == "summarise_notes").then(|| {
            let topic = arguments.text("topic").unwrap_or_default();
            let found = self.search(topic);
            let text = format!("Summarise these notes in three sentences, and name each note you used by its number:\n{found}");
            json!({"description": "The notes, and what to do with them", "messages": [{"role": "user", "content": {"type": "text", "text": text}}]})
        })
    }
}

impl Notes {
    fn add(&self, title: &str, text: &str) -> Outcome {
        if title.trim().is_empty() {
            return Err("`title` must not be empty".to_owned());
        }
        if title.len() + text.len() > MAX_TEXT {
            return Err(format!("a note holds at most {MAX_TEXT} bytes"));
        }
        let mut notes = self.0.lock();
        if notes.len() >= MAX_NOTES {
            return Err(format!("there is room for {MAX_NOTES} notes only"));
        }
        let number = notes.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        notes.insert(number, Note { title: title.to_owned(), text: text.to_owned() });
        Ok(json!({"number": number, "uri": format!("{URI}{number}")}))
    }

    fn search(&self, query: &str) -> Value {
        let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
        let matches = |note: &Note| {
            let text = format!("{}\n{}", note.title, note.text).to_lowercase();
            words.iter().all(|word| text.contains(word))
        };
        let notes = self.0.lock();
        let found = notes.iter().filter(|(_, note)| matches(note));
        json!({"notes": found.map(|(number, note)| json!({"number": number, "title": note.title, "text": note.text})).collect::<Vec<_>>()})
    }
}

fn head((number, note): (&u32, &Note)) -> Value {
    json!({"number": number, "title": note.title})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(found: &Value) -> Vec<u64> {
        found["notes"].as_array().into_iter().flatten().filter_map(|note| note["number"].as_u64()).collect()
    }

    #[test]
    fn an_added_note_is_found_by_every_word_and_read_by_its_uri() {
        let notes = Notes::default();
        let added = notes.add("Grüße", "an ALLE im Büro").expect("room");
        assert_eq!(added, json!({"number": 3, "uri": "notes://3"}));
        assert_eq!(numbers(&notes.search("büro alle")), [3]);
        assert_eq!(numbers(&notes.search("büro nobody")), [0; 0]);
        assert_eq!(notes.read("notes://3").expect("there")["text"], "Grüße\n\nan ALLE im Büro");
        assert_eq!(notes.read("notes://4"), None);
        assert_eq!(notes.read("file:///etc/passwd"), None);
    }

    #[test]
    fn a_note_too_many_or_too_long_is_refused() {
        let notes = Notes::default();
        assert!(notes.add("long", &"x".repeat(MAX_TEXT)).is_err());
        assert!(notes.add(" ", "no title").is_err());
        for _ in 2..MAX_NOTES {
            notes.add("t", "").expect("room");
        }
        assert!(notes.add("t", "").is_err());
    }
}
