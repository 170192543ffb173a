//! Verify, salvage, repair and reading around damage, on disks and in directories that are not as
//! they should be.

mod beside;
mod busy;
mod counts;
#[cfg(unix)]
mod foreign;
#[cfg(target_os = "linux")]
mod limits;
mod logs;
mod sectors;
