//! The root configuration: text to checked values, or all problems.
