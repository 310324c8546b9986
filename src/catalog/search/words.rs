//! Takes names and texts apart into the words that are searched for.

use parking_lot::Mutex;
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, Stemmer, TextAnalyzer, Token, TokenStream, Tokenizer,
};

/// Longest word in bytes; what is longer is data.
const LONGEST_WORD: usize = 64;

/// Words of names in `snake_case`, `kebab-case`, `camelCase` and with dots and slashes, and of texts; in lower case and without
/// accents. Each has two forms: as it stands, and its English stem, so that `issues` finds `create_issue`.
pub(super) struct Words {
    /// Both keep buffers from one text to the next, and give as many words as the other.
    analyzers: Mutex<(TextAnalyzer, TextAnalyzer)>,
}

impl Default for Words {
    fn default() -> Self {
        let plain = || {
            let builder = TextAnalyzer::builder(Splitter).filter(RemoveLongFilter::limit(LONGEST_WORD));
            builder.filter(LowerCaser).filter(AsciiFoldingFilter)
        };
        let stems = plain().filter(Stemmer::new(Language::English)).build();
        Self { analyzers: Mutex::new((plain().build(), stems)) }
    }
}

impl Words {
    /// Each word as it stands, and its stem.
    pub(super) fn each(&self, text: &str, mut word: impl FnMut(&str, &str)) {
        let mut analyzers = self.analyzers.lock();
        let (plain, stems) = &mut *analyzers;
        let (mut plain, mut stems) = (plain.token_stream(text), stems.token_stream(text));
        while let (Some(plain), Some(stem)) = (plain.next(), stems.next()) {
            word(&plain.text, &stem.text);
        }
    }

    /// Both forms of all words, for the index.
    pub(super) fn tokens(&self, text: &str) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        self.each(text, |plain, stem| {
            for form in [Some(plain), Some(stem).filter(|stem| *stem != plain)].into_iter().flatten() {
                tokens.push(Token { text: form.to_owned(), position: tokens.len(), ..Token::default() });
            }
        });
        tokens
    }
}

/// Splits at everything that is neither letter nor digit, where the case changes, and between a letter and a digit. A word
/// that was split within is also kept whole: `GitHub` is `git`, `hub` and `github`.
#[derive(Clone)]
struct Splitter;

struct Pieces {
    pieces: std::vec::IntoIter<Token>,
    token: Token,
}

impl Tokenizer for Splitter {
    type TokenStream<'a> = Pieces;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Pieces {
        let mut pieces = Vec::new();
        for run in text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()) {
            let before = pieces.len();
            split_run(run, &mut pieces);
            if pieces.len() > before + 1 && !run.chars().any(is_ideograph) {
                pieces.push(run);
            }
        }
        let token = |(position, piece): (usize, &str)| Token { text: piece.to_owned(), position, ..Token::default() };
        let pieces: Vec<_> = pieces.into_iter().enumerate().map(token).collect();
        Pieces { pieces: pieces.into_iter(), token: Token::default() }
    }
}

impl TokenStream for Pieces {
    fn advance(&mut self) -> bool {
        match self.pieces.next() {
            Some(next) => {
                self.token = next;
                true
            }
            None => false,
        }
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Upper,
    Letter,
    Digit,
    /// A word by itself: these scripts put no spaces.
    Ideograph,
}

fn kind(c: char) -> Kind {
    match c {
        _ if c.is_numeric() => Kind::Digit,
        _ if is_ideograph(c) => Kind::Ideograph,
        _ if c.is_uppercase() => Kind::Upper,
        _ => Kind::Letter,
    }
}

/// Of Chinese, Japanese and Korean.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

fn split_run<'a>(run: &'a str, pieces: &mut Vec<&'a str>) {
    let mut start = 0;
    let mut before: Option<Kind> = None;
    let mut chars = run.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let now = kind(c);
        let next = chars.peek().map(|(_, next)| kind(*next));
        let begins = match (before, now) {
            (None, _) => false,
            (Some(Kind::Ideograph), _) | (Some(_), Kind::Ideograph) => true,
            (Some(Kind::Digit), _) => now != Kind::Digit,
            (Some(_), Kind::Digit) | (Some(Kind::Letter), Kind::Upper) => true,
            // The last capital of several begins the next word: `HTTPServer`.
            (Some(Kind::Upper), Kind::Upper) => next == Some(Kind::Letter),
            (Some(_), _) => false,
        };
        if begins {
            pieces.extend(run.get(start..at));
            start = at;
        }
        before = Some(now);
    }
    pieces.extend(run.get(start..));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        Words::default().each(text, |plain, _| words.push(plain.to_owned()));
        words
    }

    #[test]
    fn names_are_taken_apart_however_they_are_written() {
        for (name, expected) in [
            ("crm__find_user", &["crm", "find", "user"][..]),
            ("find-user.by/mail", &["find", "user", "by", "mail"]),
            ("findUser", &["find", "user", "finduser"]),
            ("HTTPServer", &["http", "server", "httpserver"]),
            ("GitHub", &["git", "hub", "github"]),
            ("s3upload", &["s", "3", "upload", "s3upload"]),
            ("Büro löschen", &["buro", "loschen"]),
            ("検索tool", &["検", "索", "tool"]),
            ("  -- __ ", &[]),
        ] {
            assert_eq!(words(name), expected, "{name}");
        }
    }

    #[test]
    fn forms_of_a_word_are_one_word() {
        let mut stems = Vec::new();
        Words::default().each("issues issue creating created", |_, stem| stems.push(stem.to_owned()));
        assert_eq!(stems, ["issu", "issu", "creat", "creat"]);
    }
}
