"""What is sold and what is owed: values in, values out. No I/O, no clock, no chance."""
