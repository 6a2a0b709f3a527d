"""Small worlds in torch, each of which is hard in one way: something must be remembered, masked, seen, mixed or shared."""
