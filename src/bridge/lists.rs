//! A modern server's list of tools, for a client of an earlier revision.

use bytes::Bytes;

use crate::mcp::{
    Span, Splices,
    json::for_each_member,
    list::{Item, ListBounds, ListKind, ListPage},
    param_headers::ParamHeaders,
};

/// Takes out what would make such a client refuse the whole list: output schemas that are not of type `object` (2026-07-28
/// allows them), malformed tools, and tools with `x-mcp-header` annotations that cannot be followed.
///
/// A list of which all is well, and one that cannot be read, stay as they are.
pub(super) fn simplify_list(splices: &mut Splices, text: &Bytes, result: Span) {
    let bounds = ListBounds { items: usize::MAX, bytes: usize::MAX };
    let whole = text.slice(result.range());
    let Ok(page) = ListPage::parse(&whole, ListKind::Tools, bounds) else { return };
    let is_callable = |item: &&Item| item.input_schema().is_none_or(|schema| ParamHeaders::read(schema).is_ok());
    let is_well = |item: &Item| !item.output_is_no_object && is_callable(&item);
    if page.quarantined.is_empty() && page.items.iter().all(is_well) {
        return;
    }
    let mut array = vec![b'['];
    for item in page.items.iter().filter(is_callable) {
        if array.len() > 1 {
            array.push(b',');
        }
        array.extend_from_slice(&without_output(item));
    }
    array.push(b']');
    let mut tools = None;
    // The page was read, so the members are there and well-formed.
    let _ = for_each_member(&whole, |key, value| {
        if key == ListKind::Tools.key() {
            tools = Some(value);
        }
    });
    if let Some(tools) = tools {
        splices.replace(tools.shifted(result.start), array);
    }
}

fn without_output(item: &Item) -> Bytes {
    let mut splices = Splices::new();
    if item.output_is_no_object
        && splices.edit_object(item.bytes(), Span::new(0, item.bytes().len()), |key| key == "outputSchema", &[]).is_err()
    {
        return item.bytes().clone();
    }
    splices.apply(item.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simplified(tools: &str) -> String {
        let text = Bytes::from(format!(r#"{{"id":1,"result":{{"x":1.0,"tools":{tools},"ttlMs":0}}}}"#));
        let mut splices = Splices::new();
        simplify_list(&mut splices, &text, Span::new(r#"{"id":1,"result":"#.len(), text.len() - 1));
        let text = String::from_utf8(splices.apply(&text).to_vec()).unwrap();
        text.strip_prefix(r#"{"id":1,"result":{"x":1.0,"tools":"#).unwrap().strip_suffix(r#","ttlMs":0}}"#).unwrap().to_owned()
    }

    #[test]
    fn only_what_an_earlier_client_would_refuse_is_taken_out() {
        let good = r#"{"name":"a", "inputSchema":{"type":"object"},"outputSchema":{"type":"object"}}"#;
        let list = r#"{"name":"b","outputSchema":{"type":"array"},"inputSchema":{"type":"object"}}"#;
        let stripped = r#"{"name":"b","inputSchema":{"type":"object"}}"#;
        let header = r#"{"name":"c","inputSchema":{"type":"object","properties":{"p":{"type":"object","x-mcp-header":"P"}}}}"#;
        let nameless = r#"{"inputSchema":{"type":"object"}}"#;
        for (tools, expected) in [
            (format!("[ {good} ]"), format!("[ {good} ]")),
            (format!("[{good}, {list}]"), format!("[{good},{stripped}]")),
            (format!("[{header},{good}]"), format!("[{good}]")),
            (format!("[{nameless},{list}]"), format!("[{stripped}]")),
            ("7".to_owned(), "7".to_owned()),
        ] {
            assert_eq!(simplified(&tools), expected);
        }
    }
}
