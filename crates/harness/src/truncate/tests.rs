use proptest::prelude::*;

use super::*;

fn windowed(pieces: &[&[u8]], max_tokens: u32, style: Style) -> Truncated {
    let mut window = OutputWindow::new(max_tokens, style);
    for piece in pieces {
        window.push(Stream::Stdout, piece);
    }
    window.finish()
}

#[test]
fn cut_text_keeps_to_its_limit_and_counts_what_it_removed() {
    let text = "line of text\n".repeat(100);
    let cut = truncate(&text, Some(20), Style::Tool);
    assert_eq!(cut.original_tokens, Some(325));
    assert_eq!(cut.text.len(), 80);
    assert_eq!(
        cut.text,
        "Total output lines: 100\n\nline of text\nl…318 tokens truncated…t\nline of text\n"
    );
}

#[test]
fn far_more_than_the_limit_passes_through_a_small_window() {
    let piece = b"0123456789abcde\n".repeat(4096);
    let mut window = OutputWindow::new(10_000, Style::Tool);
    for _ in 0..320 {
        window.push(Stream::Stdout, &piece);
        assert!(window.held() <= 200_000, "{}", window.held());
    }
    assert_eq!(window.bytes(), 320 * 65_536);
    assert_eq!(window.lines(), 320 * 4096);
    let cut = window.finish();
    assert!(cut.text.starts_with("Total output lines: 1310720\n\n0123456789abcde\n"));
    assert!(cut.text.len() <= 40_000 && cut.text.len() > 39_990, "{}", cut.text.len());
}

#[test]
fn a_code_point_split_between_reads_stays_whole_and_streams_do_not_mix() {
    let mut window = OutputWindow::new(100, Style::Tool);
    window.push(Stream::Stdout, &[0xe6, 0x9d]);
    assert_eq!(window.undecoded(), 2);
    window.push(Stream::Stderr, b"err ");
    window.push(Stream::Stdout, &[0xb1, b'!']);
    assert_eq!(window.undecoded(), 0);
    assert_eq!(window.finish().text, "err 東!");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The streamed form gives what the batch form gives, however the bytes are cut up.
    #[test]
    fn window_and_batch_agree(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(0xe2), Just(0x82), Just(0xac), any::<u8>()], 0..600),
        cuts in proptest::collection::vec(0usize..600, 0..8),
        max_tokens in 0u32..120,
        plain in any::<bool>(),
    ) {
        let style = if plain { Style::Plain } else { Style::Tool };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.push(0);
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let text = String::from_utf8_lossy(&bytes);
        let batch = truncate(&text, Some(i64::from(max_tokens)), style);
        prop_assert!(batch.text.len() <= 4 * max_tokens as usize);
        prop_assert_eq!(windowed(&pieces, max_tokens, style), batch);
    }
}
