//! Closed sets of words: what labels, log fields and answers may say.
//!
//! Invariant: a variant and its word are declared in one place, so that no two words can be swapped.

/// A closed set of words.
pub(crate) trait Words: Copy + 'static {
    /// The name of the label that takes these words.
    const LABEL: &'static str;

    /// All of them, in the order of their indices.
    const ALL: &'static [Self];

    /// The word in labels, logs and answers.
    fn as_str(self) -> &'static str;

    /// The place in [`Words::ALL`].
    fn index(self) -> usize;
}

/// Declares an enum with a word for each variant, and the label that takes them.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident in $label:literal {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $crate::words::Words for $name {
            const LABEL: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::*;

    words! {
        /// An example.
        enum Colour in "colour" {
            /// The first.
            Red = "red",
            /// The second.
            DarkBlue = "dark_blue",
        }
    }

    #[test]
    fn a_word_belongs_to_its_variant() {
        assert_eq!((Colour::LABEL, Colour::DarkBlue.as_str(), Colour::Red.as_str()), ("colour", "dark_blue", "red"));
        assert!(Colour::ALL.iter().enumerate().all(|(index, colour)| colour.index() == index));
    }
}
