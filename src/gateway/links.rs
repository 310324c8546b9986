//! Who gave whom which URI: what a tool's result links to need not be listed, and is still to be read from that server.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::{by_principal::ByPrincipal, forward::Forward, route::Route};
use crate::{
    auth::PrincipalKey,
    mcp::{Method, links::LinkScanner},
    upstream::UpstreamId,
};

/// Links kept for one principal, and the bytes of their URIs; the oldest go first.
const MOST_LINKS: usize = 256;
const MOST_BYTES: usize = 32 * 1024;

/// The links that results have given, by principal.
#[derive(Debug, Default)]
pub(super) struct Links {
    given: Mutex<ByPrincipal<Own>>,
}

/// One principal's.
#[derive(Debug, Default)]
struct Own {
    owners: HashMap<Box<str>, UpstreamId>,
    by: HashMap<UpstreamId, ByOne>,
    bytes: usize,
}

/// What one upstream has given.
#[derive(Debug, Default)]
struct ByOne {
    /// The oldest first.
    order: VecDeque<Box<str>>,
    /// What they take: a link counts as much by its number as by its bytes.
    room: usize,
}

fn room(link: &str) -> usize {
    link.len() + MOST_BYTES / MOST_LINKS
}

impl Links {
    /// Who gave this URI to this principal.
    pub(super) fn owner(&self, principal: &PrincipalKey, uri: &str) -> Option<UpstreamId> {
        self.given.lock().get(principal)?.owners.get(uri).copied()
    }

    /// Remembers links. A URI that another upstream gave before stays that one's, so that nobody takes it over.
    fn note(&self, principal: &PrincipalKey, upstream: UpstreamId, links: Vec<String>) {
        let mut given = self.given.lock();
        let own = given.note(principal);
        for link in links {
            own.add(upstream, link.into());
        }
    }
}

impl Own {
    fn add(&mut self, upstream: UpstreamId, link: Box<str>) {
        if self.owners.contains_key(&link) {
            return;
        }
        self.bytes += link.len();
        let by = self.by.entry(upstream).or_default();
        by.room += room(&link);
        by.order.push_back(link.clone());
        self.owners.insert(link, upstream);
        while self.owners.len() > MOST_LINKS || self.bytes > MOST_BYTES {
            // Whoever gives many pushes out its own.
            let Some((greediest, by)) = self.by.iter_mut().max_by_key(|(_, by)| by.room) else { break };
            let (greediest, oldest) = (*greediest, by.order.pop_front());
            let Some(oldest) = oldest else { break };
            by.room -= room(&oldest);
            if by.order.is_empty() {
                self.by.remove(&greediest);
            }
            self.bytes -= oldest.len();
            self.owners.remove(&oldest);
        }
    }
}

/// Reads one answer for links while it goes by.
#[derive(Debug)]
pub(super) struct Reading {
    scanner: LinkScanner,
    principal: PrincipalKey,
    upstream: UpstreamId,
}

impl Reading {
    /// `None` for an answer that links to nothing, and where there is nothing to mix up.
    pub(super) fn of(request: &Forward<'_>) -> Option<Self> {
        let links = matches!(request.method, Method::ToolsCall | Method::PromptsGet);
        let Route { view, upstream, .. } = &request.route;
        (links && view.catalog.has_several_resource_owners()).then(|| Self {
            scanner: LinkScanner::default(),
            principal: request.caller.principal().clone(),
            upstream: upstream.id(),
        })
    }

    pub(super) fn passes(&mut self, bytes: &[u8], links: &Links) {
        self.scanner.push(bytes);
        if self.scanner.has_links() {
            links.note(&self.principal, self.upstream, self.scanner.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: PrincipalKey = PrincipalKey::Local;

    fn note(links: &Links, upstream: u64, uris: impl IntoIterator<Item = String>) {
        links.note(&LOCAL, UpstreamId::of_test(upstream), uris.into_iter().collect());
    }

    #[test]
    fn who_gave_a_link_first_keeps_it() {
        let links = Links::default();
        note(&links, 1, ["a://b".to_owned()]);
        note(&links, 2, ["a://b".to_owned(), "a://c".to_owned()]);
        assert_eq!(links.owner(&LOCAL, "a://b"), Some(UpstreamId::of_test(1)));
        assert_eq!(links.owner(&LOCAL, "a://c"), Some(UpstreamId::of_test(2)));
        assert_eq!(links.owner(&LOCAL, "a://d"), None);
    }

    #[test]
    fn an_upstream_that_gives_many_links_pushes_out_its_own() {
        let links = Links::default();
        note(&links, 1, ["a://mine".to_owned()]);
        note(&links, 2, (0..2000).map(|n| format!("b://{n}")));
        note(&links, 2, (0..200).map(|n| format!("c://{n}{}", "x".repeat(2000))));
        assert_eq!(links.owner(&LOCAL, "a://mine"), Some(UpstreamId::of_test(1)));
        assert_eq!(links.owner(&LOCAL, "b://0"), None);
    }

    #[test]
    fn the_oldest_links_make_room_by_number_and_by_size() {
        let links = Links::default();
        note(&links, 1, (0..1000).map(|n| format!("a://{n}")));
        assert_eq!(links.given.lock().get(&LOCAL).map(|own| own.owners.len()), Some(MOST_LINKS));
        assert_eq!(links.owner(&LOCAL, "a://0"), None);
        assert!(links.owner(&LOCAL, "a://999").is_some());
        note(&links, 1, (0..100).map(|n| format!("b://{n}{}", "x".repeat(2000))));
        let given = links.given.lock();
        let own = given.get(&LOCAL).unwrap();
        assert!(own.bytes <= MOST_BYTES && own.owners.len() == 16, "{} {}", own.bytes, own.owners.len());
    }
}
