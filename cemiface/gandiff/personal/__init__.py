"""Personalization: adapters of identities, how they are learned, and their packs."""
