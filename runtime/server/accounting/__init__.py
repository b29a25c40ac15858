"""What each answer used and cost: record, bill, pricing, ledger, metrics, logs."""
