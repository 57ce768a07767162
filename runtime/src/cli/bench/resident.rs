//! Resident memory, as the kernel counts it (`VmRSS`: the process's own pages and the mapped file
//! pages that it touched).

/// Of this process, in bytes; 0 where there is no `/proc`.
pub(crate) fn of_this_process() -> u64 {
    read("/proc/self/status")
}

/// Of another process, in bytes; 0 when it is gone or there is no `/proc`.
pub(crate) fn of_process(pid: u32) -> u64 {
    read(&format!("/proc/{pid}/status"))
}

fn read(path: &str) -> u64 {
    std::fs::read_to_string(path)
        .ok()
        .and_then(|status| parse(&status))
        .unwrap_or(0)
}

fn parse(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_file_counts_in_kib() {
        assert_eq!(
            parse("Name:\tjupiter\nVmRSS:\t    12 kB\nRssFile:\t 3 kB\n"),
            Some(12288)
        );
        assert_eq!(parse("Name:\tkthreadd\n"), None);
    }
}
