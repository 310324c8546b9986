//! `search` and `execute`, the tools that are the gateway's own.

use std::{borrow::Cow, sync::Arc};

use super::{
    Client, Gateway, GatewayError, ModernClient, Reply,
    personal::Person,
    view::{Lineup, View},
};
use crate::{
    auth::Caller,
    catalog::{Catalog, ListedTool, Lookup, MOST_FOUND, OwnTool, search::SearchIndex, search_result},
    mcp::{
        Field, Id, Message, Span, Splices,
        json::{for_each_member, unescape},
    },
};

impl Gateway {
    /// Which of its own tools a call means, if one. Where they are not listed, an upstream's tool of that name comes first.
    pub(super) async fn own_tool(self: &Arc<Self>, caller: &Caller, message: &Message) -> Option<OwnTool> {
        let own = OwnTool::named(&message.name()?)?;
        let view = self.view();
        if view.lineup.config.tools.lists_own() {
            return Some(own);
        }
        if view.lineup.is_transparent() {
            return None;
        }
        let view = self.settled_for(caller).await;
        (view.catalog.tool(own.name()) == Lookup::Unknown).then_some(own)
    }

    /// Answers a call of `search`.
    pub(super) async fn search(
        self: &Arc<Self>,
        caller: &Caller,
        client: &Client,
        message: &Message,
        id: &Id,
    ) -> Result<Reply, GatewayError> {
        let keywords = keywords(message)?;
        let own = self.settled_for(caller).await;
        let (structured, era) = (own.lineup.config.structured, client.era());
        let making = *self.rebuilt.borrow();
        let index = match self.person(caller) {
            Some(person) => Index::Own(person),
            None => Index::Shared(self.finder.index(self.patience_ends(), making).await, self.view()),
        };
        let caller = caller.clone();
        let search = move || {
            let (view, index) = match index {
                Index::Shared(index, view) => (view, index),
                Index::Own(person) => person.index().map(|(view, index)| (view, Some(index)))?,
            };
            let view = view.seen_by(&caller);
            // What has gone since the index was made is not found any more.
            // Nor is what the caller may not use, also where another tool has its name in the caller's own lists.
            let is_open = view.audience.is_none();
            let is_visible = |name: &str, found: &_| view.catalog.listed_tool(name).is_some_and(|listed| is_open || listed == found);
            let found = index.as_ref().map(|index| index.search(&keywords, MOST_FOUND, is_visible));
            found.transpose().map(|found| search_result(&found.unwrap_or_default(), structured, era))
        };
        match self.finder.run(search).await {
            Some(Ok(result)) => Ok(Reply::result(id, &result)),
            Some(Err(error)) => {
                tracing::error!(%error, "a search failed");
                Err(GatewayError::SearchFailed)
            }
            None => Err(GatewayError::SearchFailed),
        }
    }
}

/// Where a search looks: in more than the caller may see.
enum Index {
    /// In what is the same for all.
    Shared(Option<Arc<SearchIndex>>, Arc<View>),
    Own(Arc<Person>),
}

/// Says which tools give way to the gateway's own, as far as it was not said before.
pub(super) fn tell_renamed(lineup: &Lineup, fresh: &Catalog, before: &Catalog) {
    if !lineup.config.tools.lists_own() {
        return;
    }
    let gives_way = |tool: &&ListedTool| OwnTool::named(&tool.found.name).is_some() && before.listed_tool(&tool.name).is_none();
    for tool in fresh.listed_tools().iter().filter(gives_way) {
        let Some(config) = lineup.config.upstreams.get(tool.found.upstream).filter(|config| config.prefix.is_empty()) else { continue };
        tracing::warn!(
            upstream = %config.name, tool = &*tool.found.name, listed_as = &*tool.name,
            "the gateway's own tool has this name while mcp.tools is not \"direct\"; the upstream's is shown under its full name"
        );
    }
}

/// The call that `execute` stands for, and who makes it. Name and arguments go as they were written, and so does everything
/// beside them.
///
/// # Errors
/// The arguments are not those of `execute`.
pub(super) fn executed(client: &Client, message: &Message) -> Result<(Client, Message), GatewayError> {
    let arguments = message.raw(Field::Arguments).filter(|raw| raw.starts_with(b"{"));
    let (Some(outer), Some(raw)) = (message.span(Field::Arguments), arguments) else {
        return Err(GatewayError::InvalidParams("`execute` takes an object with `name` and `arguments`"));
    };
    let mut name: Option<Span> = None;
    let mut inner: Option<Span> = None;
    let mut is_twice = false;
    // Whoever reads the log and whoever runs the tool must see one call.
    let walked = for_each_member(&raw, |key, value| match key {
        "name" => is_twice |= name.replace(value).is_some(),
        "arguments" => is_twice |= inner.replace(value).is_some(),
        _ => {}
    });
    if walked.is_err() || is_twice {
        return Err(GatewayError::InvalidParams("`execute` takes one `name` and one `arguments`"));
    }
    let name = name.filter(|span| unescape(span.of(&raw)).is_some()).ok_or(GatewayError::InvalidParams("`name` is not a string"))?;
    let inner = match inner {
        Some(span) if span.of(&raw).starts_with(b"{") => raw.slice(span.range()),
        Some(_) => return Err(GatewayError::InvalidParams("`arguments` is not an object")),
        None => return Err(GatewayError::InvalidParams("`arguments` is missing; a tool that takes none gets {}")),
    };
    let mut splices = Splices::new();
    if let Some(span) = message.name_span() {
        splices.replace(span, raw.slice(name.range()));
    }
    splices.replace(outer, inner);
    let message = Message::parse(splices.apply(message.bytes())).map_err(|_| GatewayError::InvalidParams("the call cannot be read"))?;
    let client = match client {
        Client::Legacy(session) => Client::Legacy(Arc::clone(session)),
        // What the client repeated as headers belongs to `execute`; those of the tool are made from its arguments.
        Client::Modern(_) => Client::Modern(Arc::new(ModernClient::default())),
    };
    Ok((client, message))
}

/// What `execute` was asked to run is looked up like any tool, and only the answer for an unknown one is other.
pub(super) fn not_executed(error: GatewayError) -> GatewayError {
    match error {
        GatewayError::Unknown { name, .. } => GatewayError::UnknownToExecute { name },
        other => other,
    }
}

fn keywords(message: &Message) -> Result<Vec<String>, GatewayError> {
    let wrong = GatewayError::InvalidParams("`search` takes an object with `keywords`, a list of strings");
    let Some(raw) = message.raw(Field::Arguments) else { return Err(wrong) };
    #[derive(serde::Deserialize)]
    struct Arguments<'a> {
        #[serde(borrow)]
        keywords: Vec<Cow<'a, str>>,
    }
    let Ok(arguments) = serde_json::from_slice::<Arguments<'_>>(&raw) else { return Err(wrong) };
    Ok(arguments.keywords.into_iter().map(Cow::into_owned).collect())
}
