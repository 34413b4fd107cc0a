//! Hostile text made harmless to look at.

use std::borrow::Cow;

/// `text` with every character that a terminal, a browser or an XML parser could act on, or refuse,
/// written out as `\u{…}`. Line feeds and tabs stay. What is HTML or XML syntax stays too: escaping
/// that is the writer's part.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The same on one line: line feeds and tabs are written out as well.
pub(super) fn line(text: &str) -> String {
    visible(text).replace('\n', "\\n").replace('\t', "\\t")
}

fn acts(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Bidirectional overrides and isolates reorder what surrounds them ("Trojan Source");
        // U+2028 and U+2029 break lines in some viewers.
        '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // Invisible: two labels would look alike. Joiners, fillers, selectors of variants, tags.
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => true,
        '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{202f}' | '\u{2060}'..='\u{2065}' => true,
        '\u{206a}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => true,
        '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' => true,
        // Noncharacters: not allowed in XML 1.0, or in an HTML stream.
        '\u{fdd0}'..='\u{fdef}' => true,
        c if (c as u32) & 0xfffe == 0xfffe => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::{line, visible};

    #[test]
    fn harmless_text_is_untouched() {
        let text = "agent \"é\" <b>\n\t日本語 \\u{1b}";
        assert_eq!(visible(text), text);
    }

    #[test]
    fn control_and_bidi_characters_are_written_out() {
        assert_eq!(visible("a\x1b[2Jb\0\r"), "a\\u{1b}[2Jb\\u{0}\\u{d}");
        assert_eq!(visible("\u{202e}txt\u{85}\u{ffff}\u{1fffe}"), "\\u{202e}txt\\u{85}\\u{ffff}\\u{1fffe}");
        assert_eq!(line("a\nb\tc"), "a\\nb\\tc");
    }
}
