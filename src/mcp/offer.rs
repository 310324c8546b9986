//! What one server offers: its greeting and everything it lists.

use bytes::Bytes;

use super::{
    era::Era,
    handshake::ServerFacts,
    list::{Item, Quarantined},
};

/// A server's greeting, and what of it decides how the gateway treats the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub facts: ServerFacts,
    pub declares: Declares,
}

/// The capabilities that decide what the gateway asks for and says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declares {
    pub tools: bool,
    pub prompts: bool,
    pub resources: bool,
    pub subscribe: bool,
    pub completions: bool,
    pub logging: bool,
}

impl Greeting {
    pub fn new(facts: ServerFacts) -> Self {
        let declares = Declares {
            tools: facts.has(&["tools"]),
            prompts: facts.has(&["prompts"]),
            resources: facts.has(&["resources"]),
            subscribe: facts.has(&["resources", "subscribe"]),
            completions: facts.has(&["completions"]),
            logging: facts.has(&["logging"]),
        };
        Self { facts, declares }
    }

    /// Raw JSON object.
    pub fn server_info(&self) -> Option<&Bytes> {
        self.facts.server_info.as_ref()
    }
}

/// Everything that one server lists, all pages together.
#[derive(Clone, Debug)]
pub struct Offer {
    pub era: Era,
    pub greeting: Greeting,
    pub tools: Vec<Item>,
    pub prompts: Vec<Item>,
    pub resources: Vec<Item>,
    pub templates: Vec<Item>,
    /// Items that would break a client's whole list, left out of it.
    pub quarantined: Vec<Quarantined>,
}
