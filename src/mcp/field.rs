//! The members of a message that a gateway decides on, and where each is found.

/// An object whose keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Message,
    Params,
    Ref,
    Meta,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $level:ident $key:literal),+ $(,)?) => {
        /// A member that [`Message`](super::Message) remembers the place of. None of them may occur twice.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Field { $($(#[$doc])* $name),+ }

        impl Field {
            pub(super) const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The member's key.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$name => $key),+ }
            }

            pub(super) const fn level(self) -> Level {
                match self { $(Self::$name => Level::$level),+ }
            }

            pub(super) fn exact(level: Level, key: &str) -> Option<Self> {
                match (level, key) {
                    $((Level::$level, $key) => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

fields! {
    Jsonrpc = Message "jsonrpc",
    Id = Message "id",
    Method = Message "method",
    Params = Message "params",
    Result = Message "result",
    Error = Message "error",
    /// Of a tool or a prompt.
    Name = Params "name",
    /// Of a resource.
    Uri = Params "uri",
    Arguments = Params "arguments",
    /// What a completion is for.
    Ref = Params "ref",
    /// Of a list; `""` is a valid one.
    Cursor = Params "cursor",
    /// Of logging.
    Level = Params "level",
    /// Of `notifications/cancelled`.
    RequestId = Params "requestId",
    /// Of `notifications/progress`.
    ProgressToken = Params "progressToken",
    RequestState = Params "requestState",
    InputResponses = Params "inputResponses",
    TaskId = Params "taskId",
    Task = Params "task",
    /// Of `initialize`.
    ProtocolVersion = Params "protocolVersion",
    Capabilities = Params "capabilities",
    ClientInfo = Params "clientInfo",
    /// The filter of `subscriptions/listen`.
    Notifications = Params "notifications",
    /// Of an elicitation by URL.
    ElicitationId = Params "elicitationId",
    Meta = Params "_meta",
    RefType = Ref "type",
    RefName = Ref "name",
    RefUri = Ref "uri",
    /// A request's own token, under which its progress is reported.
    MetaProgressToken = Meta "progressToken",
    MetaProtocolVersion = Meta "io.modelcontextprotocol/protocolVersion",
    MetaClientInfo = Meta "io.modelcontextprotocol/clientInfo",
    MetaClientCapabilities = Meta "io.modelcontextprotocol/clientCapabilities",
    MetaLogLevel = Meta "io.modelcontextprotocol/logLevel",
    MetaSubscriptionId = Meta "io.modelcontextprotocol/subscriptionId",
}

impl Field {
    /// The field that a sloppy reader would take `key` for: equal but for letter case.
    ///
    /// Go's `encoding/json`, on which servers are built, matches keys without regard to case (Unicode simple folding, so that
    /// `ſ` is an `s` and the Kelvin sign a `k`) and lets the last one win.
    pub(super) fn folded(level: Level, key: &str) -> Option<Self> {
        // The longest key has 43 bytes, the fold makes a key shorter at most to a third.
        if key.len() > 3 * 43 {
            return None;
        }
        let fields = || Self::ALL.iter().copied().filter(|field| field.level() == level);
        if key.is_ascii() {
            return fields().find(|field| field.key().eq_ignore_ascii_case(key));
        }
        let folded = key.replace('\u{17f}', "s").replace('\u{212a}', "k");
        fields().find(|field| field.key().eq_ignore_ascii_case(&folded))
    }

    pub(super) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_key_and_fits_the_bit_set() {
        assert!(Field::ALL.len() <= 64);
        for field in Field::ALL {
            assert_eq!(Field::exact(field.level(), field.key()), Some(*field));
            assert!(field.key().len() <= 43, "{}", field.key());
            assert_eq!(Field::folded(field.level(), &field.key().to_uppercase()), Some(*field));
        }
    }

    #[test]
    fn a_key_is_folded_as_go_folds_it() {
        assert_eq!(Field::folded(Level::Message, "param\u{17f}"), Some(Field::Params));
        assert_eq!(Field::folded(Level::Params, "ta\u{17f}\u{212a}Id"), Some(Field::TaskId));
        assert_eq!(Field::folded(Level::Params, "names"), None);
    }
}
