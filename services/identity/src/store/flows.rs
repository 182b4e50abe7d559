//! Registrations, one-time passwords, the texts that claim them, and nonces.

use dialtone_store::{Batch, Commit, StoreError};
use prost::Message;

use super::{FlowId, Seen, Store};
use crate::limits::FLOW_LIFE;
use crate::rows::{FlowRow, MoRow, NonceRow};

impl Store {
    pub(crate) async fn flow(&self, id: &FlowId) -> Result<Option<Seen<FlowRow>>, StoreError> {
        Ok(self.see("flow", id).await?.there())
    }

    /// Whether it is new: an id that is drawn is.
    pub(crate) async fn add_flow(&self, id: &FlowId, row: &FlowRow) -> Result<bool, StoreError> {
        self.add("flow", *id, row).await
    }

    pub(crate) async fn swap_flow(&self, id: &FlowId, seen: &Seen<FlowRow>) -> Result<bool, StoreError> {
        self.swap("flow", *id, seen).await
    }

    /// Ends a flow; whether nobody had.
    pub(crate) async fn drop_flow(&self, id: &FlowId, seen: &Seen<FlowRow>) -> Result<bool, StoreError> {
        match &seen.bytes {
            Some(bytes) => self.drop_as("flow", *id, bytes).await,
            None => Ok(false),
        }
    }

    /// Remembers under which text a phone will claim a flow: first where the text leads, then that it is the flow's.
    ///
    /// A text whose flow does not know it leads nowhere ([`Store::flow_of_mo`]): that is what is left when the process
    /// dies in between, or when another text was quicker, until the text's time is over.
    pub(crate) async fn add_mo(&self, id: &FlowId, seen: &Seen<FlowRow>) -> Result<bool, StoreError> {
        let leads = MoRow { flow: id.to_vec(), expires_ms: seen.row.expires_ms };
        let text = seen.row.mo_token.as_bytes();
        let batch = Batch::new().put_for("flow_mo", text, leads.encode_to_vec(), 2 * FLOW_LIFE);
        let _always_applied: Commit = self.db.commit(batch).await?;
        self.swap_flow(id, seen).await
    }

    /// The flow that a text claims, if it is that flow's.
    pub(crate) async fn flow_of_mo(
        &self,
        token: &str,
    ) -> Result<Option<(FlowId, Seen<FlowRow>)>, StoreError> {
        if token.is_empty() || token.len() > MO_BYTES {
            return Ok(None);
        }
        let leads: Seen<MoRow> = self.see("flow_mo", token.as_bytes()).await?;
        let Ok(id) = FlowId::try_from(&leads.row.flow[..]) else { return Ok(None) };
        let seen = self.flow(&id).await?.filter(|seen| seen.row.mo_token == token);
        Ok(seen.map(|seen| (id, seen)))
    }

    pub(crate) async fn add_nonce(&self, nonce: &[u8; 32], row: &NonceRow) -> Result<bool, StoreError> {
        self.add("nonce", *nonce, row).await
    }

    /// Takes a nonce: it is good for one try, whoever tries.
    pub(crate) async fn take_nonce(&self, nonce: &[u8]) -> Result<Option<NonceRow>, StoreError> {
        if nonce.len() != 32 {
            return Ok(None);
        }
        let seen: Seen<NonceRow> = self.see("nonce", nonce).await?;
        let Some(bytes) = &seen.bytes else { return Ok(None) };
        Ok(self.drop_as("nonce", nonce, bytes).await?.then_some(seen.row))
    }
}

/// No text that we gave is longer.
const MO_BYTES: usize = 64;
