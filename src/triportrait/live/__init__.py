"""A portrait that speaks while its sound still comes in: one clock, one endless motion, one endless sound."""
