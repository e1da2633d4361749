"""What can be wrong with records, and which pictures training and evaluation share."""
