"""What each answer used and cost: record, bill, ledger, metrics, logs."""
