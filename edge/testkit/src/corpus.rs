//! Reads corpora of malformed messages, each beside a valid twin.
//!
//! Invariant: the bytes of a case are exactly those that its line writes down; a line that cannot be read fails its test.

/// One malformed message and its twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The word of the rule that it breaks.
    pub rule: String,
    /// What happens to whoever sends it: a status, or a word.
    pub outcome: String,
    /// Where the rule stands.
    pub section: String,
    /// The line of the corpus.
    pub line: usize,
    /// The malformed message.
    pub bad: Vec<u8>,
    /// The same without the fault.
    pub good: Vec<u8>,
}

/// All cases of a corpus.
pub fn read(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let (mut rule, mut bad) = (None, None);
    for (number, line) in (1..).zip(text.lines()) {
        let Some((kind, rest)) = line.split_once(':').filter(|_| !line.starts_with('#')) else {
            assert!(line.is_empty() || line.starts_with('#'), "line {number} is none of a corpus: {line}");
            continue;
        };
        match kind {
            "rule" => {
                let mut words = rest.trim().splitn(3, ' ').map(str::to_owned);
                let mut word = || words.next().expect("a rule has a word, an outcome and a section");
                rule = Some((word(), word(), word()));
            }
            "bad" => bad = Some(bytes(rest.strip_prefix("  ").expect("two spaces behind bad"))),
            "good" => {
                let (rule, outcome, section) = rule.clone().expect("a rule above the case");
                let bad = bad.take().expect("a bad case above its twin");
                let good = bytes(rest.strip_prefix(' ').expect("a space behind good"));
                cases.push(Case { rule, outcome, section, line: number, bad, good });
            }
            _ => panic!("line {number} is none of a corpus: {line}"),
        }
    }
    cases
}

/// The bytes that are written down as `\r`, `\n`, `\t`, `\0`, `\\`, `\"`, `\xNN`, `\{COUNT*BYTES}`, or as themselves.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let kind = escape.chars().next().expect("something behind a backslash");
        rest = &escape[1..];
        match kind {
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            '0' => bytes.push(0),
            '\\' | '"' => bytes.push(kind as u8),
            'x' => {
                let (digits, after) = rest.split_at(2);
                bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
                rest = after;
            }
            '{' => {
                let end = closing_brace(rest);
                let (count, repeated) = rest[..end].split_once('*').expect("COUNT*BYTES");
                bytes.extend(self::bytes(repeated).repeat(count.parse().expect("a count")));
                rest = &rest[end + 1..];
            }
            other => panic!("no such escape: \\{other}"),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Where the brace ends that has been opened.
fn closing_brace(text: &str) -> usize {
    let mut depth = 1;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    panic!("a repetition without an end: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_that_are_written_down() {
        assert_eq!(bytes(r#"a\r\n\t\0\\\"\xff\{2*b\{2*c}}d"#), b"a\r\n\t\0\\\"\xffbccbccd");
    }

    #[test]
    fn a_case_has_the_rule_above_it() {
        let cases = read("# comment\n\nrule: nul 400 RFC 9110 §5.5\nbad:  a\\0\ngood: a\n");
        assert_eq!((cases[0].rule.as_str(), cases[0].outcome.as_str()), ("nul", "400"));
        assert_eq!((cases[0].bad.as_slice(), cases[0].good.as_slice()), (&b"a\0"[..], &b"a"[..]));
        assert_eq!(cases[0].section, "RFC 9110 §5.5");
    }
}
