//! Groups of this system.

/// The number of a group, where there is such a group; looking it up may ask the network.
pub async fn group_id(name: String) -> Option<u32> {
    let look = move || nix::unistd::Group::from_name(&name).ok().flatten().map(|group| group.gid.as_raw());
    tokio::task::spawn_blocking(look).await.ok().flatten()
}
