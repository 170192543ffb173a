//! Who owns a directory: locks, names, foreign files, a directory that moves.
