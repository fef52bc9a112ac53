"""What people see: tables of scores."""
