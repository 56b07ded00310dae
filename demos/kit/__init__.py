"""What every demo is made of: options, trials, runs, records. Nothing in it knows images, sound or text."""
