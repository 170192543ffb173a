//! Every form of reading, in editions and around gaps.
