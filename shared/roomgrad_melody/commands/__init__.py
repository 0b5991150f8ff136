"""The commands of the melody maker: its runs, its labels, its melodies."""
