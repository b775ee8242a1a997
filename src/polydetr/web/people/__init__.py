"""Who uses the pages, what each may do, who is signed in, and who changed what."""
