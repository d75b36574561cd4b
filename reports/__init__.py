"""From the store to what people read: leaderboard in HTML, CSV, Markdown and the terminal. Never imports torch."""
