//! Removes the containers and networks of runs that are no more.

use std::collections::HashMap;

use testcontainers::bollard::query_parameters::{
    ListContainersOptions, ListNetworksOptions, RemoveContainerOptions,
};

use super::{Docker, DockerError, NETWORK, OWNER};
use crate::owner::Owner;

impl Docker {
    /// Removes what dead runs left; what belongs to a living one is left alone. Returns how many containers it were.
    ///
    /// # Errors
    /// If the daemon does not list them. One that cannot be removed is left, for it may be gone by now.
    pub fn sweep(&self) -> Result<usize, DockerError> {
        self.runtime.block_on(self.remove_dead()).map_err(|error| DockerError::Container {
            what: "remove what dead runs left".to_owned(),
            cause: error.to_string(),
            log: String::new(),
        })
    }

    async fn remove_dead(&self) -> Result<usize, testcontainers::bollard::errors::Error> {
        let filters = HashMap::from([("label".to_owned(), vec![OWNER.to_owned()])]);
        let all = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let mut removed = 0;
        for container in self.client.list_containers(Some(all)).await? {
            let owner = container.labels.as_ref().and_then(|labels| labels.get(OWNER)?.parse::<Owner>().ok());
            if let (Some(id), true) = (container.id, owner.is_some_and(Owner::is_dead)) {
                let force = RemoveContainerOptions { force: true, v: true, ..Default::default() };
                removed += usize::from(self.client.remove_container(&id, Some(force)).await.is_ok());
            }
        }
        for network in self.client.list_networks(None::<ListNetworksOptions>).await? {
            let Some(name) = network.name else { continue };
            let owner = name.strip_prefix(NETWORK).and_then(|owner| owner.parse::<Owner>().ok());
            if owner.is_some_and(Owner::is_dead) {
                let _ = self.client.remove_network(&name).await;
            }
        }
        Ok(removed)
    }
}
