//! The methods a gateway treats in its own way.

use super::{Field, era::Era};

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $text:literal in $eras:ident),+ $(,)?) => {
        /// A method of MCP; anything else is passed on by its text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method { $($(#[$doc])* $name),+ }

        impl Method {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$name),)+
                    _ => None,
                }
            }

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            const fn eras(self) -> Eras {
                match self { $(Self::$name => Eras::$eras),+ }
            }
        }
    };
}

enum Eras {
    Both,
    LegacyOnly,
    ModernOnly,
}

methods! {
    Initialize = "initialize" in LegacyOnly,
    Ping = "ping" in LegacyOnly,
    Discover = "server/discover" in ModernOnly,
    Listen = "subscriptions/listen" in ModernOnly,
    ToolsList = "tools/list" in Both,
    ToolsCall = "tools/call" in Both,
    PromptsList = "prompts/list" in Both,
    PromptsGet = "prompts/get" in Both,
    ResourcesList = "resources/list" in Both,
    ResourceTemplatesList = "resources/templates/list" in Both,
    ResourcesRead = "resources/read" in Both,
    ResourcesSubscribe = "resources/subscribe" in LegacyOnly,
    ResourcesUnsubscribe = "resources/unsubscribe" in LegacyOnly,
    Complete = "completion/complete" in Both,
    SetLevel = "logging/setLevel" in LegacyOnly,
    TasksGet = "tasks/get" in Both,
    TasksCancel = "tasks/cancel" in Both,
    /// Of the tasks extension.
    TasksUpdate = "tasks/update" in ModernOnly,
    TasksList = "tasks/list" in LegacyOnly,
    TasksResult = "tasks/result" in LegacyOnly,
    // Requests a legacy server makes of its client.
    RootsList = "roots/list" in LegacyOnly,
    CreateMessage = "sampling/createMessage" in LegacyOnly,
    Elicit = "elicitation/create" in LegacyOnly,
    // Notifications.
    Initialized = "notifications/initialized" in LegacyOnly,
    Cancelled = "notifications/cancelled" in Both,
    Progress = "notifications/progress" in Both,
    LogMessage = "notifications/message" in Both,
    ToolsChanged = "notifications/tools/list_changed" in Both,
    PromptsChanged = "notifications/prompts/list_changed" in Both,
    ResourcesChanged = "notifications/resources/list_changed" in Both,
    ResourceUpdated = "notifications/resources/updated" in Both,
    RootsChanged = "notifications/roots/list_changed" in LegacyOnly,
    ElicitationComplete = "notifications/elicitation/complete" in LegacyOnly,
    TaskStatus = "notifications/tasks/status" in LegacyOnly,
    TaskChanged = "notifications/tasks" in ModernOnly,
    Acknowledged = "notifications/subscriptions/acknowledged" in ModernOnly,
}

impl Method {
    /// Whether the era has this method. A modern server answers one that it lacks with 404 and -32601.
    pub const fn exists_in(self, era: Era) -> bool {
        match (self.eras(), era) {
            (Eras::Both, _) | (Eras::LegacyOnly, Era::Legacy) | (Eras::ModernOnly, Era::Modern) => true,
            (Eras::LegacyOnly, Era::Modern) | (Eras::ModernOnly, Era::Legacy) => false,
        }
    }

    /// It only reads, so that it may be sent again although it may have been executed.
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::PromptsGet | Self::ResourcesRead | Self::Complete)
    }

    pub fn is_notification(self) -> bool {
        self.as_str().starts_with("notifications/")
    }

    /// The parameter that names what the request is about, which the `Mcp-Name` header repeats (MCP 2026-07-28,
    /// transports/streamable-http, "Standard Request Headers"; for tasks, the tasks extension).
    pub const fn name_field(self) -> Option<Field> {
        match self {
            Self::ToolsCall | Self::PromptsGet => Some(Field::Name),
            Self::ResourcesRead => Some(Field::Uri),
            Self::TasksGet | Self::TasksUpdate | Self::TasksCancel => Some(Field::TaskId),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_parsed_from_its_text() {
        for method in Method::ALL {
            assert_eq!(Method::parse(method.as_str()), Some(*method));
        }
        assert_eq!(Method::parse("Tools/Call"), None);
    }

    #[test]
    fn a_modern_server_has_no_handshake() {
        assert!(!Method::Initialize.exists_in(Era::Modern));
        assert!(!Method::Discover.exists_in(Era::Legacy));
        assert!(Method::ToolsCall.exists_in(Era::Modern) && Method::ToolsCall.exists_in(Era::Legacy));
    }
}
