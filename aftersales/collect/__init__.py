"""Everything between a received file and a canonical table: connectors, mapping, quarantine, ledger."""
