use proptest::prelude::*;

use super::*;

fn read(chunks: &[&[u8]], max_event: usize) -> (Vec<Event>, Result<bool, SseError>) {
    let mut reader = EventReader::new(max_event);
    let mut events = Vec::new();
    for chunk in chunks {
        if let Err(error) = reader.push(Bytes::copy_from_slice(chunk), &mut |event| events.push(event)) {
            return (events, Err(error));
        }
    }
    let cut_off = reader.finish();
    (events, Ok(cut_off))
}

fn all(stream: &[u8]) -> Vec<Event> {
    read(&[stream], 1 << 20).0
}

fn data(text: &'static str) -> Event {
    Event { data: Some(Bytes::from(text)), ..Event::default() }
}

#[test]
fn every_kind_of_line_end_ends_a_line() {
    for stream in [&b"data: 1\n\ndata: 2\n\n"[..], b"data: 1\r\rdata: 2\r\r", b"data: 1\r\n\r\ndata: 2\r\n\r\n"] {
        assert_eq!(all(stream), [data("1"), data("2")]);
    }
}

#[test]
fn fields_comments_and_unknown_names_are_told_apart() {
    let stream = b"\xef\xbb\xbf: hi\nevent: message\nid: 7\nretry: 500\nretry: x\nfoo: bar\nbaz\ndata:{\"a\":1}\ndata:  b\n\n:\n\n";
    let expected = Event {
        id: Some(Bytes::from("7")),
        event: Some(Bytes::from("message")),
        retry: Some(500),
        data: Some(Bytes::from("{\"a\":1}\n b")),
    };
    assert_eq!(all(stream), [expected]);
}

#[test]
fn the_opening_event_has_empty_data_and_a_retry_alone_has_none() {
    assert_eq!(all(b"id: s1\ndata:\n\n"), [Event { data: Some(Bytes::new()), ..Event::default() }.with_id("s1")]);
    assert_eq!(all(b"id: s1\ndata\n\n"), [Event { data: Some(Bytes::new()), ..Event::default() }.with_id("s1")]);
    assert_eq!(all(b"retry: 9\n\n"), [Event { retry: Some(9), ..Event::default() }]);
    assert_eq!(all(b"id: a\0b\n\n\n\n"), []);
}

#[test]
fn an_event_that_is_not_ended_is_lost_and_reported() {
    assert_eq!(read(&[b"data: 1\n\ndata: 2\n"], 100), (vec![data("1")], Ok(true)));
    assert_eq!(read(&[b"data: 1\n\ndat"], 100), (vec![data("1")], Ok(true)));
    assert_eq!(read(&[b"data: 1\n\n"], 100), (vec![data("1")], Ok(false)));
}

#[test]
fn an_event_over_the_bound_is_an_error_however_it_is_made() {
    let too_large = Err(SseError::TooLarge { max_event: 32 });
    assert_eq!(read(&[&[b'x'; 33]], 32).1, too_large);
    assert_eq!(read(&[&b"data: 1\n"[..]; 5], 32).1, too_large);
    assert_eq!(read(&[&b"data\n"[..]; 9], 32).1, too_large);
    assert_eq!(read(&[&b"data: 0123456789\n\n"[..]; 9], 32).1, Ok(false));
    // Comments hold nothing.
    assert_eq!(read(&[&b": 0123456789\n"[..]; 9], 32).1, Ok(false));
}

#[test]
fn data_of_one_line_is_not_copied() {
    let chunk = Bytes::from_static(b"id: 1\ndata: {}\n\n");
    let at = chunk.slice(12..).as_ptr();
    EventReader::new(100).push(chunk, &mut |event| assert_eq!(event.data.unwrap().as_ptr(), at)).unwrap();
}

#[test]
fn an_id_cannot_forge_a_field() {
    let event = Event::message(Bytes::from("{}")).with_id("1\ndata: evil");
    assert_eq!(event.encode(), "event: message\ndata: {}\n\n");
}

#[test]
fn a_head_and_a_tail_make_the_same_event() {
    let event = Event::message(Bytes::from("{}")).with_id("1");
    let pieces = [&event.head(), &b"{}"[..], TAIL].concat();
    assert_eq!(pieces, event.encode());
}

proptest! {
    #[test]
    fn the_events_do_not_depend_on_the_chunks(
        tokens in proptest::collection::vec(prop_oneof![
            Just("\n"), Just("\r"), Just("\r\n"), Just("data:"), Just("data: x"), Just("id: 1"), Just(":c"), Just("retry: 3"), Just("\u{feff}"), Just("é"),
        ], 0..40),
        cuts in proptest::collection::vec(0usize..200, 0..12),
    ) {
        let stream = tokens.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).chain([0, stream.len()]).collect();
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(&chunks, 1000), read(&[&stream], 1000));
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(read(&bytes, 1000), read(&[&stream], 1000));
    }

    #[test]
    fn what_is_encoded_is_read_back(text in "[ -~é\n\r]{0,40}", id in "[ -~]{0,8}", retry in proptest::option::of(any::<u64>())) {
        let event = Event { retry, ..Event::message(Bytes::from(text.clone())).with_id(id) };
        let expected = Event { data: Some(Bytes::from(text.replace("\r\n", "\n").replace('\r', "\n"))), ..event.clone() };
        prop_assert_eq!(all(&event.encode()), [expected]);
    }
}
