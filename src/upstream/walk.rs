//! Reads everything an upstream lists, page by page.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::{Generation, UpstreamError, generation::MAX_OWN_ANSWER, own::own_meta};
use crate::{
    mcp::{
        Era, Field, Id, Kind, build,
        errors::{ErrorParts, code},
        list::{Item, ListBounds, ListKind, ListPage, Quarantined},
        offer::{Greeting, Offer},
        param_headers::ParamHeaders,
    },
    reason::{Explanation, Reason},
};

/// Items that are left out and remembered.
pub(crate) const MAX_QUARANTINED: usize = 100;
/// Least time that a whole walk is given.
const LEAST_PATIENCE: Duration = Duration::from_secs(60);

/// What a catalog may grow to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkBounds {
    pub(crate) max_list: usize,
    pub(crate) max_items: usize,
    pub(crate) max_pages: usize,
}

/// Lists what the greeting declares.
///
/// # Errors
/// [`UpstreamError`]; a server that declares a list but does not know its method has an empty one.
pub(crate) async fn walk(generation: &Generation, greeting: Greeting, bounds: WalkBounds) -> Result<Offer, UpstreamError> {
    let patience = generation.list_timeout.saturating_mul(4).max(LEAST_PATIENCE);
    timeout(patience, walk_all(generation, greeting, bounds)).await.unwrap_or_else(|_| {
        let detail = format!("the lists were not read to the end within {patience:?}");
        let explanation = Explanation::new(Reason::ListTimeout, detail, "raise list_timeout, if the server is merely slow");
        Err(UpstreamError::Failed { explanation, never_sent: false })
    })
}

async fn walk_all(generation: &Generation, greeting: Greeting, bounds: WalkBounds) -> Result<Offer, UpstreamError> {
    let declares = greeting.declares;
    let mut offer =
        Offer { era: generation.era, greeting, tools: vec![], prompts: vec![], resources: vec![], templates: vec![], quarantined: vec![] };
    let mut budget = Budget { bytes: bounds.max_list.min(MAX_OWN_ANSWER), bounds };
    let wanted = [
        (declares.tools, ListKind::Tools),
        (declares.prompts, ListKind::Prompts),
        (declares.resources, ListKind::Resources),
        (declares.resources, ListKind::ResourceTemplates),
    ];
    for (_, kind) in wanted.into_iter().filter(|(declared, _)| *declared) {
        let items = walk_one(generation, kind, &mut budget, &mut offer.quarantined).await?;
        match kind {
            ListKind::Tools => offer.tools = items,
            ListKind::Prompts => offer.prompts = items,
            ListKind::Resources => offer.resources = items,
            ListKind::ResourceTemplates => offer.templates = items,
        }
    }
    Ok(offer)
}

struct Budget {
    bytes: usize,
    bounds: WalkBounds,
}

async fn walk_one(
    generation: &Generation,
    kind: ListKind,
    budget: &mut Budget,
    quarantined: &mut Vec<Quarantined>,
) -> Result<Vec<Item>, UpstreamError> {
    let mut items = Vec::new();
    let mut left_out = 0;
    let mut seen = HashSet::new();
    let mut cursor: Option<Bytes> = None;
    for _ in 0..budget.bounds.max_pages {
        let Some(result) = fetch(generation, kind, cursor.as_deref(), budget).await? else { return Ok(items) };
        let bounds = ListBounds { items: budget.bounds.max_items.saturating_sub(items.len() + left_out), bytes: result.len() };
        let page = ListPage::parse(&result, kind, bounds)
            .map_err(|error| UpstreamError::protocol(format!("{}: {error}", kind.method().as_str())))?;
        left_out += page.quarantined.len();
        items.extend(page.items);
        page.quarantined.into_iter().for_each(|item| leave_out(quarantined, item));
        if kind == ListKind::Tools && generation.era == Era::Modern && !generation.is_stdio() {
            leave_out_unreachable(&mut items, quarantined);
        }
        let Some(next) = page.next_cursor else { return Ok(items) };
        if !seen.insert(next.clone()) {
            return Err(UpstreamError::protocol(format!("{} repeats a cursor: its pages never end", kind.method().as_str())));
        }
        cursor = Some(next);
    }
    let detail = format!("{} has more pages than mcp.bounds.max_pages allows", kind.method().as_str());
    let remedy = "raise max_pages in [mcp.bounds], if the server is meant to offer so much";
    Err(UpstreamError::Failed { explanation: Explanation::new(Reason::Protocol, detail, remedy), never_sent: false })
}

/// One page's `result`; `None` when the server does not know the method.
async fn fetch(
    generation: &Generation,
    kind: ListKind,
    cursor: Option<&[u8]>,
    budget: &mut Budget,
) -> Result<Option<Bytes>, UpstreamError> {
    let id = generation.own_id();
    let meta = (generation.era == Era::Modern).then(own_meta);
    let body = build::list(&Id::from_u64(id), kind, cursor, meta.as_ref());
    let answer = generation.ask_up_to(budget.bytes, generation.own_session.as_ref(), kind.method(), id, body).await?;
    budget.bytes = budget.bytes.saturating_sub(answer.bytes().len());
    if answer.kind() == Kind::ErrorResponse {
        let error = ErrorParts::of(&answer);
        if error.is_some_and(|error| error.code == code::METHOD_NOT_FOUND) {
            return Ok(None);
        }
        return Err(UpstreamError::protocol(format!(
            "{} was answered with error {}",
            kind.method().as_str(),
            error.map_or(0, |error| error.code)
        )));
    }
    Ok(answer.raw(Field::Result))
}

/// Keeps the first of the items that are left out; more of them tell an operator nothing more.
fn leave_out(quarantined: &mut Vec<Quarantined>, item: Quarantined) {
    if quarantined.len() < MAX_QUARANTINED {
        quarantined.push(item);
    }
}

/// A client over HTTP must not offer a tool whose `x-mcp-header` annotations break their rules (MCP 2026-07-28,
/// basic/transports): its calls could not be made.
fn leave_out_unreachable(items: &mut Vec<Item>, quarantined: &mut Vec<Quarantined>) {
    items.retain(|item| match item.input_schema().map(ParamHeaders::read) {
        Some(Err(error)) => {
            let name = item.name().chars().take(128).collect();
            leave_out(quarantined, Quarantined { name: Some(name), why: error.to_string().chars().take(256).collect::<String>().into() });
            false
        }
        None | Some(Ok(_)) => true,
    });
}
