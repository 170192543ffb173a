//! Verify, salvage, repair and reading around damage, on disks and in directories that are not as they should be.

mod beside;
mod logs;
mod sectors;
